//! The part of ClickHouse's lexer that is needed to separate an `INSERT` from its data and to find the
//! format of an answer. The engine parses the statements.

/// The kind of a request's text, which is the query in the URL followed by the body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The text is too short to decide; read more and scan again.
    More,
    /// `INSERT … FORMAT x` or `INSERT … VALUES`, followed by data.
    Insert(Insert),
    /// Any other statement, including `INSERT … SELECT`. The body continues the statement.
    Other,
}

/// The positions of the parts of an `INSERT` with data in the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Insert {
    /// The end of the statement without its `FORMAT` or `VALUES`.
    pub sql_end: usize,
    /// The format of the data, `Values` for `VALUES`.
    pub format: String,
    /// The start of the data.
    pub data_start: usize,
}

/// Scans the beginning of a request's text. `complete` means that the text is complete.
pub(crate) fn scan(text: &[u8], complete: bool) -> Scan {
    let mut lexer = Lexer::new(text);
    match lexer.next() {
        // A word at the end of the text may be incomplete.
        Some(first) if first.end == text.len() && !complete => return Scan::More,
        Some(first) if first.is(text, "INSERT") => {}
        None if !complete => return Scan::More,
        _ => return Scan::Other,
    }
    let mut depth = 0_u32;
    let mut previous_names_table = false;
    while let Some(token) = lexer.next() {
        if token.end == text.len() && !complete {
            return Scan::More;
        }
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 && !previous_names_table => {
                if let Some(found) = data_clause(text, token, &mut lexer, complete) {
                    return found;
                }
            }
            _ => {}
        }
        // The next word is the name of a table, which may be `values`.
        previous_names_table =
            ["INTO", "TABLE", "FUNCTION"].iter().any(|word| token.is(text, word))
                || token.kind == Kind::Dot;
    }
    if complete { Scan::Other } else { Scan::More }
}

/// Decides at a word of an `INSERT` outside parentheses whether data (or a `SELECT`) follows.
fn data_clause(text: &[u8], word: Token, lexer: &mut Lexer, complete: bool) -> Option<Scan> {
    if ["SELECT", "WITH", "FROM", "WATCH"].iter().any(|keyword| word.is(text, keyword)) {
        return Some(Scan::Other);
    }
    if word.is(text, "VALUES") {
        let format = "Values".to_owned();
        return Some(Scan::Insert(Insert { sql_end: word.start, format, data_start: word.end }));
    }
    if !word.is(text, "FORMAT") {
        return None;
    }
    let Some(name) = lexer.next() else {
        return Some(if complete { Scan::Other } else { Scan::More });
    };
    let Some(data_start) = data_start(text, name.end, complete) else { return Some(Scan::More) };
    let format = String::from_utf8_lossy(&text[name.start..name.end]).into_owned();
    Some(Scan::Insert(Insert { sql_end: word.start, format, data_start }))
}

/// Returns the start of the data: after the name of the format, blanks and then at most one line end
/// are skipped, as in ClickHouse's `ParserInsertQuery`. Returns `None` if the text is too short to
/// decide.
fn data_start(text: &[u8], mut at: usize, complete: bool) -> Option<usize> {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\x0c')) {
        at += 1;
    }
    if text.get(at) == Some(&b'\r') {
        at += 1;
    }
    match text.get(at) {
        Some(b'\n') => Some(at + 1),
        None if !complete => None,
        _ => Some(at),
    }
}

/// The properties of a complete statement without data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The name after a final `FORMAT`.
    pub format: Option<String>,
    /// It begins with `SELECT` or `WITH`, so its answer can be streamed.
    pub select: bool,
    /// There is text after the first `;`.
    pub several: bool,
    /// There is no statement.
    pub empty: bool,
}

/// Returns the properties of a complete statement.
pub(crate) fn shape(text: &[u8]) -> Shape {
    let tokens: Vec<Token> = Lexer::new(text).collect();
    let end = tokens.iter().position(|token| token.kind == Kind::Semicolon);
    let several =
        end.is_some_and(|end| tokens[end..].iter().any(|token| token.kind != Kind::Semicolon));
    let statement = &tokens[..end.unwrap_or(tokens.len())];
    let select = statement
        .iter()
        .find(|token| token.kind != Kind::Open)
        .is_some_and(|token| token.is(text, "SELECT") || token.is(text, "WITH"));
    // `format` may also be a column, as in `SELECT format FROM t`. Only the last one counts, and only
    // if a name and then the end or SETTINGS follow.
    let keyword = statement.iter().rposition(|token| token.is(text, "FORMAT"));
    let format = keyword.and_then(|keyword| {
        let name = statement.get(keyword + 1).filter(|token| token.kind == Kind::Word)?;
        let last = statement.get(keyword + 2).is_none_or(|token| token.is(text, "SETTINGS"));
        last.then(|| String::from_utf8_lossy(&text[name.start..name.end]).into_owned())
    });
    Shape { format, select, several, empty: statement.is_empty() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Quoted,
    Open,
    Close,
    Dot,
    Semicolon,
    Other,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

impl Token {
    fn is(self, text: &[u8], keyword: &str) -> bool {
        self.kind == Kind::Word
            && text[self.start..self.end].eq_ignore_ascii_case(keyword.as_bytes())
    }
}

/// Iterates over the tokens of a text without blanks and comments. It ends at a string or comment that
/// is not closed.
struct Lexer<'text> {
    text: &'text [u8],
    at: usize,
}

impl<'text> Lexer<'text> {
    fn new(text: &'text [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'text [u8] {
        &self.text[self.at..]
    }

    /// Skips blanks and comments. Returns `None` if a comment is not closed.
    fn skip_blanks(&mut self) -> Option<()> {
        loop {
            let rest = self.rest();
            if rest.first().is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'\x0b') {
                self.at += 1;
            } else if rest.starts_with(b"--") || rest.starts_with(b"# ") || rest.starts_with(b"#!")
            {
                self.at += rest.iter().position(|byte| *byte == b'\n')? + 1;
            } else if rest.starts_with(b"/*") {
                self.at += find(&rest[2..], b"*/")? + 4;
            } else {
                return Some(());
            }
        }
    }

    /// Returns the length of the quoted text at the start of `rest`. Quotes inside are escaped with a
    /// backslash or doubled.
    fn quoted(rest: &[u8], quote: u8) -> Option<usize> {
        let mut at = 1;
        loop {
            match *rest.get(at)? {
                b'\\' => at += 2,
                byte if byte == quote && rest.get(at + 1) == Some(&quote) => at += 2,
                byte if byte == quote => return Some(at + 1),
                _ => at += 1,
            }
        }
    }

    /// Returns the length of `$tag$ … $tag$` at the start of `rest`, or 1 for a plain dollar sign.
    fn heredoc(rest: &[u8]) -> Option<usize> {
        let tag_end = rest[1..].iter().position(|byte| !is_word(*byte));
        let Some(tag_end) = tag_end.filter(|end| rest[end + 1] == b'$') else { return Some(1) };
        let tag = &rest[..tag_end + 2];
        Some(find(&rest[tag.len()..], tag)? + 2 * tag.len())
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks()?;
        let rest = self.rest();
        let (kind, length) = match *rest.first()? {
            quote @ (b'\'' | b'"' | b'`') => (Kind::Quoted, Self::quoted(rest, quote)?),
            b'$' => (Kind::Quoted, Self::heredoc(rest)?),
            b'(' => (Kind::Open, 1),
            b')' => (Kind::Close, 1),
            b'.' => (Kind::Dot, 1),
            b';' => (Kind::Semicolon, 1),
            byte if is_word(byte) => {
                let end = rest.iter().position(|byte| !is_word(*byte));
                (Kind::Word, end.unwrap_or(rest.len()))
            }
            _ => (Kind::Other, 1),
        };
        let start = self.at;
        self.at += length;
        Some(Token { kind, start, end: self.at })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the statement, the format and the data of an insert.
    fn parts(text: &[u8]) -> (String, String, &[u8]) {
        match scan(text, true) {
            Scan::Insert(insert) => (
                String::from_utf8_lossy(&text[..insert.sql_end]).trim_end().to_owned(),
                insert.format,
                &text[insert.data_start..],
            ),
            other => panic!("{other:?} for {}", String::from_utf8_lossy(text)),
        }
    }

    #[test]
    fn data_is_separated_from_the_statement() {
        for (text, sql, format, data) in [
            ("INSERT INTO t VALUES (1);", "INSERT INTO t", "Values", &b" (1);"[..]),
            ("insert into t(a, b) format TSV\n1\t;", "insert into t(a, b)", "TSV", b"1\t;"),
            ("INSERT INTO t FORMAT CSV 1,2", "INSERT INTO t", "CSV", b"1,2"),
            ("INSERT INTO t FORMAT CSV \r\n\n1", "INSERT INTO t", "CSV", b"\n1"),
            (
                "/* VALUES */ INSERT -- VALUES\nINTO `VALUES` FORMAT X\n",
                "/* VALUES */ INSERT -- VALUES\nINTO `VALUES`",
                "X",
                b"",
            ),
            (
                "INSERT INTO values (format) VALUES ('x')",
                "INSERT INTO values (format)",
                "Values",
                b" ('x')",
            ),
            (
                "INSERT INTO db.format SETTINGS a='FORMAT CSV' FORMAT TSV\n",
                "INSERT INTO db.format SETTINGS a='FORMAT CSV'",
                "TSV",
                b"",
            ),
            (
                "INSERT INTO FUNCTION file('a\\'b') VALUES",
                "INSERT INTO FUNCTION file('a\\'b')",
                "Values",
                b"",
            ),
            (
                "INSERT INTO {t:Identifier} FORMAT RowBinary\n \x00\n",
                "INSERT INTO {t:Identifier}",
                "RowBinary",
                b" \x00\n",
            ),
        ] {
            assert_eq!(parts(text.as_bytes()), (sql.to_owned(), format.to_owned(), data), "{text}");
        }
    }

    #[test]
    fn every_prefix_of_the_text_asks_for_more_or_gives_the_same_result() {
        let text = b"INSERT INTO t (a) SETTINGS x='y''z' /* c */ FORMAT RowBinary \r\n;data";
        let whole = scan(text, true);
        for cut in 0..text.len() {
            let found = scan(&text[..cut], false);
            assert!(found == Scan::More || found == whole, "at {cut}: {found:?}");
        }
        assert_eq!(scan(text, false), whole);
    }

    #[test]
    fn statements_without_data_are_not_inserts() {
        for text in [
            "SELECT 1",
            "INSERT INTO t SELECT 1 FORMAT CSV",
            "INSERT INTO t (a) WITH 1 AS x SELECT x",
            "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
            "INSERT INTO t (SELECT 1)",
            "INSERT INTO t",
            "",
            "INSERT INTO t SETTINGS a='not closed",
        ] {
            assert_eq!(scan(text.as_bytes(), true), Scan::Other, "{text}");
        }
    }

    #[test]
    fn format_kind_and_number_of_statements_are_found() {
        for (text, format, select, several) in [
            ("SELECT 1", None, true, false),
            ("SELECT 1 FORMAT JSON;  -- end", Some("JSON"), true, false),
            ("(SELECT 1) format Native settings max_threads = 1", Some("Native"), true, false),
            ("SELECT format FROM t", None, true, false),
            ("SELECT 'FORMAT CSV'", None, true, false),
            ("WITH 1 AS x SELECT $a$ ; $a$", None, true, false),
            ("SHOW TABLES FORMAT TSV", Some("TSV"), false, false),
            ("SELECT 1; SELECT 2", None, true, true),
            ("CREATE TABLE t (s String DEFAULT ';') ENGINE=Memory", None, false, false),
        ] {
            let format = format.map(str::to_owned);
            let expected = Shape { format, select, several, empty: false };
            assert_eq!(shape(text.as_bytes()), expected, "{text}");
        }
        assert!(shape(b" -- nothing\n;").empty);
    }
}
