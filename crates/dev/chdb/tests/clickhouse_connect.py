"""Uses a ClickHouse server as analysts do in notebooks. Arguments: its URL and a new database."""

import sys
from datetime import datetime, timezone
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

url = urlsplit(sys.argv[1])
database = sys.argv[2]


def connect(**options):
    return clickhouse_connect.get_client(host=url.hostname, port=url.port, **options)


for compress in (False, "lz4", "zstd", "gzip"):
    client = connect(compress=compress)
    client.command(f"DROP DATABASE IF EXISTS {database} SYNC")
    client.command(f"CREATE DATABASE {database}")
    client = connect(compress=compress, database=database)
    client.command(
        "CREATE TABLE rows (id UInt32, text LowCardinality(String), at DateTime('UTC'),"
        " tags Array(String), note Nullable(String)) ENGINE = MergeTree ORDER BY id"
    )

    at = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
    rows = [[i, "a;b", at, [";"] * (i % 3), None if i % 2 else f"note;\n{i}"] for i in range(5000)]
    summary = client.insert("rows", rows, column_names=["id", "text", "at", "tags", "note"])
    assert summary.written_rows == 5000, summary.summary

    result = client.query("SELECT * FROM rows ORDER BY id")
    assert result.column_names == ("id", "text", "at", "tags", "note")
    assert [list(row) for row in result.result_rows] == [
        [i, text, at.replace(tzinfo=result.result_rows[0][2].tzinfo), tags, note]
        for i, text, at, tags, note in rows
    ], result.result_rows[:3]

    found = client.query(
        "SELECT id, {text:String} FROM rows WHERE id IN {ids:Array(UInt32)} ORDER BY id",
        parameters={"ids": [3, 5], "text": "it's; \\ 5"},
    )
    assert found.result_rows == [(3, "it's; \\ 5"), (5, "it's; \\ 5")], found.result_rows

    client.raw_insert("rows", ["id", "text"], b"9001,x\n9002,\";\"\n", fmt="CSV")
    assert client.command("SELECT count() FROM rows WHERE id > 9000") == 2
    assert client.query("SELECT id FROM rows WHERE id > 9999").result_rows == []

    with client.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
        assert sum(row[0] for block in stream for row in block) == 300000 * 299999 // 2

    settings = {"max_block_size": 1000}
    assert client.query("SELECT getSetting('max_block_size')", settings=settings).first_row == (1000,)

    try:
        client.query("SELECT * FROM missing")
        raise SystemExit("a query of a missing table succeeded")
    except DatabaseError as error:
        assert "Code: 60" in str(error) or "UNKNOWN_TABLE" in str(error), error
    try:
        client.query("SELECT throwIf(number = 900000), toString(number) FROM numbers(1000000)",
                     settings=settings)
        raise SystemExit("a query that throws returned a result")
    except DatabaseError as error:
        assert "395" in str(error) or "throwIf" in str(error), error
    client.close()
