-- Several events may come for one request of a caller: other attempts at it, other runs of a call. Each is booked, one attempt is
-- charged, the rest is waste of the platform. Rows of older releases are the only run of the only attempt, and charged. All defaults
-- are constant, so that no row is written anew.

-- `move` 0 books an event; 1, 2, ... move it between its tenant and waste. `charged`: where it stands from then on.
ALTER TABLE transactions
  ADD COLUMN attempt_id text NOT NULL DEFAULT '',
  ADD COLUMN run        integer NOT NULL DEFAULT 0,
  ADD COLUMN move       integer NOT NULL DEFAULT 0 CHECK (move >= 0),
  ADD COLUMN charged    boolean NOT NULL DEFAULT true,
  DROP CONSTRAINT transactions_request_id_key,
  ADD CONSTRAINT transactions_of_event UNIQUE (request_id, attempt_id, run, move);

-- `caller_request_id` is empty where the event names no attempt: then it is the superseded call, or the call itself.
ALTER TABLE usage_events
  ADD COLUMN attempt_id         text NOT NULL DEFAULT '',
  ADD COLUMN run                integer NOT NULL DEFAULT 0,
  ADD COLUMN caller_request_id  text NOT NULL DEFAULT '',
  ADD COLUMN attempt_begin_time timestamptz,
  DROP CONSTRAINT usage_events_pkey,
  ADD PRIMARY KEY (request_id, attempt_id, run);
CREATE INDEX usage_events_of_caller ON usage_events (caller_request_id) WHERE caller_request_id <> '';

CREATE FUNCTION caller_request_of(event usage_events) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(nullif(event.caller_request_id, ''), nullif(event.superseded_request_id, ''), event.request_id)
$$;

-- The events that nobody is charged for. Few: the index holds only events that were ever anywhere but with their tenant.
CREATE INDEX transactions_moved ON transactions (request_id, attempt_id, run, move DESC) INCLUDE (charged)
  WHERE move > 0 OR NOT charged;
CREATE VIEW waste AS
  SELECT request_id, attempt_id, run
    FROM (SELECT DISTINCT ON (request_id, attempt_id, run) request_id, attempt_id, run, charged
            FROM transactions WHERE move > 0 OR NOT charged
           ORDER BY request_id, attempt_id, run, move DESC) AS newest
   WHERE NOT charged;

-- Calls of which nothing is charged, whose reservations Redis has not given back: written only while Redis is away.
CREATE TABLE unreleased (
  org            text NOT NULL,
  reservation_id text NOT NULL,
  PRIMARY KEY (org, reservation_id)
);
