-- Amounts stay for ever; whom they were spent for may be forgotten. The one exemption from append only: an update that names the
-- organisation in `accounting.erasing`, gives its users other names, takes away their tags, and changes nothing else.
CREATE FUNCTION usage_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND current_setting('accounting.erasing', true) = OLD.org AND NEW.tags = '{}'
     AND to_jsonb(NEW) - '{user_id,tags,tokens}'::text[] = to_jsonb(OLD) - '{user_id,tags,tokens}'::text[] THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION '% is append-only: to correct, append', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
DROP TRIGGER append_only ON usage_events;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON usage_events FOR EACH ROW EXECUTE FUNCTION usage_append_only();

-- What was erased, and when.
CREATE TABLE erasures (
  org          text NOT NULL,
  erase_time   timestamptz NOT NULL DEFAULT now(),
  keys         bigint NOT NULL,
  usage_events bigint NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON erasures FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON erasures FOR EACH STATEMENT EXECUTE FUNCTION append_only();
