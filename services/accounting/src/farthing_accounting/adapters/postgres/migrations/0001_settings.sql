-- What operators set: keys, policies, budgets, prices; and which of their writes were done already.

-- Only a keyed hash of a key is kept.
CREATE TABLE keys (
  key_id      text PRIMARY KEY,
  org         text NOT NULL,
  team        text NOT NULL,
  user_id     text NOT NULL,
  hash        bytea NOT NULL CHECK (length(hash) = 32),
  create_time timestamptz NOT NULL DEFAULT now(),
  expire_time timestamptz,
  revoke_time timestamptz
);
CREATE INDEX keys_of_org ON keys (org, create_time, key_id);

-- Every version is kept; the newest is in force.
CREATE TABLE policies (
  org                 text NOT NULL,
  version             bigint NOT NULL CHECK (version > 0),
  default_tier        smallint NOT NULL,
  max_tier            smallint NOT NULL,
  max_output_tokens   integer NOT NULL,
  cache_enabled       boolean NOT NULL,
  cache_time_to_live  interval NOT NULL,
  outage_mode         smallint NOT NULL,
  outage_grace        bigint NOT NULL CHECK (outage_grace >= 0),
  create_time         timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org, version)
);

-- NULL means no limit. `changed` numbers the changes of all organisations: the greatest of one is the version of its limits.
CREATE SEQUENCE budget_changes;
CREATE TABLE budgets (
  org         text NOT NULL,
  kind        smallint NOT NULL,
  scope_id    text NOT NULL,
  time_window smallint NOT NULL,
  money       bigint CHECK (money >= 0),
  tokens      bigint CHECK (tokens >= 0),
  concurrency bigint CHECK (concurrency >= 0),
  changed     bigint NOT NULL,
  PRIMARY KEY (org, kind, scope_id, time_window)
);

-- One list for the mesh: each row is a version of it, and prices one model from then on. In nano-dollars for a million tokens.
CREATE TABLE price_versions (
  price_version  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  model          text NOT NULL,
  tier           smallint NOT NULL,
  fresh_input    bigint NOT NULL CHECK (fresh_input >= 0),
  cache_read     bigint NOT NULL CHECK (cache_read >= 0),
  cache_write    bigint NOT NULL CHECK (cache_write >= 0),
  output         bigint NOT NULL CHECK (output >= 0),
  reasoning      bigint NOT NULL CHECK (reasoning >= 0),
  effective_time timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX price_versions_of_model ON price_versions (model, price_version);

-- A row is written in the transaction of the write that it stands for.
CREATE TABLE idempotency (
  operation       text NOT NULL,
  idempotency_key text NOT NULL,
  digest          bytea NOT NULL,
  result          text NOT NULL,
  create_time     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (operation, idempotency_key)
);
