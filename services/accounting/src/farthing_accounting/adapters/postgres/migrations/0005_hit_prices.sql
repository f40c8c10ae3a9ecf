-- What an answer from a cache was charged by: a share, in millionths, of what its tokens cost on the model that wrote it, and the
-- version of the policy that sets it. NULL where a model answered, and for events of older releases: their hits cost nothing.
ALTER TABLE usage_events
  ADD COLUMN policy_version  bigint CHECK (policy_version >= 0),
  ADD COLUMN hit_price_share integer CHECK (hit_price_share BETWEEN 0 AND 1000000),
  ADD CONSTRAINT usage_events_hit_price_check CHECK ((policy_version IS NULL) = (hit_price_share IS NULL));

-- What an event costs: its tokens at its prices, and for a hit the share of the tokens that it spared, rounded half up:
-- farthing_kit.money.HitPrice in the words of SQL, a second time on purpose like cost_of. Most hits are free: that is quick to say.
CREATE FUNCTION cost_of(event usage_events) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT cost_of(ARRAY[event.fresh_input, event.cache_read, event.cache_write, event.output, event.reasoning], event.prices)
         + CASE WHEN event.hit_price_share > 0
             THEN div(2 * cost_of(event.counterfactual_tokens, event.prices) * event.hit_price_share + 1000000, 2000000)
             ELSE 0 END
$$;
