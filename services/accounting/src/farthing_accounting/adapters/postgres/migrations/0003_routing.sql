-- How tier and model are chosen, and what the semantic cache may do. Rows are never changed, so versions from before have the
-- defaults: no objective (which is treated as the default floor of quality), and no semantic hits. `task_models` is an
-- object: number of the task -> model.
ALTER TABLE policies
  ADD COLUMN quality_floor        double precision CHECK (quality_floor > 0 AND quality_floor < 1),
  ADD COLUMN spending_target      bigint CHECK (spending_target > 0),
  ADD COLUMN fixed_tier           smallint,
  ADD COLUMN min_quality_floor    double precision NOT NULL DEFAULT 0.5
    CHECK (min_quality_floor > 0 AND min_quality_floor < 1),
  ADD COLUMN task_models          jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN cascade              boolean NOT NULL DEFAULT false,
  ADD COLUMN session_time_to_live interval NOT NULL DEFAULT '0',
  ADD COLUMN shadow_share         double precision NOT NULL DEFAULT 0 CHECK (shadow_share BETWEEN 0 AND 0.1),
  ADD COLUMN max_error_share      double precision NOT NULL DEFAULT 0 CHECK (max_error_share BETWEEN 0 AND 0.1),
  ADD COLUMN cache_scope          smallint NOT NULL DEFAULT 1,
  ADD COLUMN hit_price_share      double precision NOT NULL DEFAULT 0 CHECK (hit_price_share BETWEEN 0 AND 1),
  ADD CONSTRAINT policies_one_objective CHECK (num_nonnulls(quality_floor, spending_target, fixed_tier) <= 1);
