-- The user of Grafana (deploy/grafana/provisioning). It has no password, like everything in docker-compose.yml, whose
-- ports are published on 127.0.0.1 only.
CREATE USER IF NOT EXISTS grafana IDENTIFIED WITH no_password;
GRANT dashboards TO grafana;
ALTER USER grafana DEFAULT ROLE dashboards;
