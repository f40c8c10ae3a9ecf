-- The books: usage events, and a double-entry transaction for each. Rows are added, never changed.

CREATE TABLE transactions (
  transaction_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  request_id     text NOT NULL UNIQUE,
  org            text NOT NULL,
  create_time    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX transactions_of_org ON transactions (org, transaction_id DESC);

-- Debits are positive, credits negative, in nano-dollars.
CREATE TABLE entries (
  transaction_id bigint NOT NULL REFERENCES transactions,
  line           smallint NOT NULL,
  account        text NOT NULL,
  amount         bigint NOT NULL,
  PRIMARY KEY (transaction_id, line)
);

-- What was booked, with the prices it was booked at, so that everything can be computed again.
CREATE TABLE usage_events (
  request_id      text PRIMARY KEY,
  transaction_id  bigint NOT NULL UNIQUE REFERENCES transactions,
  digest          bytea NOT NULL,
  org             text NOT NULL,
  team            text NOT NULL,
  user_id         text NOT NULL,
  key_id          text NOT NULL,
  end_time        timestamptz NOT NULL,
  reservation_id  text NOT NULL,
  cache_level     smallint NOT NULL,
  tier            smallint NOT NULL,
  task            smallint NOT NULL,
  pool            text NOT NULL,
  quantization    text NOT NULL,
  finish_reason   smallint NOT NULL,
  tags            jsonb NOT NULL,
  model           text NOT NULL,
  price_version   bigint NOT NULL,
  fresh_input     bigint NOT NULL CHECK (fresh_input >= 0),
  cache_read      bigint NOT NULL CHECK (cache_read >= 0),
  cache_write     bigint NOT NULL CHECK (cache_write >= 0),
  output          bigint NOT NULL CHECK (output >= 0),
  reasoning       bigint NOT NULL CHECK (reasoning >= 0),
  -- Nano-dollars for a million tokens, in the order of the buckets above; all zero where the event had no prices.
  prices          bigint[] NOT NULL CHECK (cardinality(prices) = 5),
  cost            bigint NOT NULL CHECK (cost >= 0),
  -- The same for everything on the large tier and no cache.
  counterfactual_model  text NOT NULL,
  counterfactual_tokens bigint[] NOT NULL CHECK (cardinality(counterfactual_tokens) = 5),
  counterfactual_prices bigint[] NOT NULL CHECK (cardinality(counterfactual_prices) = 5),
  counterfactual_cost   bigint NOT NULL CHECK (counterfactual_cost >= 0),
  tokens          bigint NOT NULL GENERATED ALWAYS AS (fresh_input + cache_read + cache_write + output + reasoning) STORED
);
CREATE INDEX usage_events_of_org ON usage_events (org, end_time);
CREATE INDEX usage_events_by_time ON usage_events (end_time);

-- Booked, but not yet taken off a budget in Redis: written only while Redis is away.
CREATE TABLE unsettled (
  transaction_id bigint PRIMARY KEY REFERENCES transactions
);

CREATE FUNCTION must_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT coalesce(sum(amount), 1) <> 0 OR count(*) < 2 FROM entries WHERE transaction_id = NEW.transaction_id) THEN
    RAISE EXCEPTION 'the entries of transaction % do not sum to zero', NEW.transaction_id
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER balance AFTER INSERT ON transactions
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION must_balance();
CREATE CONSTRAINT TRIGGER balance AFTER INSERT ON entries
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION must_balance();

CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: to correct, append', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON transactions FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON entries FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON usage_events FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON price_versions FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON policies FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON transactions FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON usage_events FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON price_versions FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON policies FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- The total of a list of tokens at a list of prices, rounded half up, once: farthing_kit.money.cost in the words of SQL. It is
-- written a second time on purpose: Verify computes with it what was booked by the other.
CREATE FUNCTION cost_of(tokens bigint[], prices bigint[]) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT div(2 * coalesce(sum(t::numeric * p), 0) + 1000000, 2000000) FROM unnest(tokens, prices) AS pair (t, p)
$$;
