-- A cascade is two calls of one request: the second supersedes the first, whose request is counted once, and whose
-- counterfactual is taken back. Empty for every other event.
ALTER TABLE usage_events
  ADD COLUMN superseded_request_id text NOT NULL DEFAULT '',
  ADD COLUMN superseded_tokens bigint[] NOT NULL DEFAULT '{0,0,0,0,0}' CHECK (cardinality(superseded_tokens) = 5);
ALTER TABLE usage_events DROP CONSTRAINT usage_events_counterfactual_cost_check;
ALTER TABLE usage_events
  ADD CONSTRAINT usage_events_counterfactual_cost_check CHECK (counterfactual_cost >= 0 OR superseded_request_id <> '');
CREATE INDEX usage_events_superseded ON usage_events (superseded_request_id) WHERE superseded_request_id <> '';
