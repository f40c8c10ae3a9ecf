-- What an answer from a cache was charged by: a share, in millionths, of its counterfactual, and the version of the policy that
-- sets it. NULL where a model answered, and for events of older releases: their hits cost nothing.
ALTER TABLE usage_events
  ADD COLUMN policy_version  bigint CHECK (policy_version >= 0),
  ADD COLUMN hit_price_share integer CHECK (hit_price_share BETWEEN 0 AND 1000000),
  ADD CONSTRAINT usage_events_hit_price_check CHECK ((policy_version IS NULL) = (hit_price_share IS NULL));

-- The share of a counterfactual, rounded half up: farthing_kit.money.HitPrice in the words of SQL, a second time on purpose like
-- cost_of.
CREATE FUNCTION hit_price_of(counterfactual numeric, share integer) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT div(2 * counterfactual * coalesce(share, 0) + 1000000, 2000000)
$$;

-- What an event costs: its tokens at its prices, and for a hit its price.
CREATE FUNCTION cost_of(event usage_events) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT cost_of(ARRAY[event.fresh_input, event.cache_read, event.cache_write, event.output, event.reasoning], event.prices)
         + hit_price_of(cost_of(event.counterfactual_tokens, event.counterfactual_prices), event.hit_price_share)
$$;
