-- One hot row, and a row for each claim.
CREATE TABLE sale (sale text PRIMARY KEY, units bigint NOT NULL, sold bigint NOT NULL);
CREATE TABLE claim (
  sale text NOT NULL,
  key text NOT NULL,
  user_id text NOT NULL,
  unit bigint NOT NULL,
  PRIMARY KEY (key, sale),
  UNIQUE (user_id, sale)
);

-- Sales of the past, so that there are statistics to plan by, as in a database that has been in use.
INSERT INTO sale SELECT 'past-' || number, 1000, 1000 FROM generate_series(1, 50) AS number;
INSERT INTO claim
  SELECT 'past-' || number, md5('key' || number || '-' || unit), 'u-' || md5('user' || number || '-' || unit), unit
  FROM generate_series(1, 50) AS number, generate_series(1, 1000) AS unit;
ANALYZE;

-- What becomes of a claim that finds something: the answer of its key, else that its user has a unit; NULL: neither.
CREATE FUNCTION earlier(p_sale text, p_user text, p_key text, OUT code int, OUT unit bigint)
LANGUAGE plpgsql AS $$
DECLARE
  known claim;
BEGIN
  SELECT * INTO known FROM claim WHERE sale = p_sale AND key = p_key;
  IF FOUND THEN
    code := CASE WHEN known.user_id = p_user THEN 2 ELSE 4 END;
    unit := known.unit;
  ELSIF EXISTS (SELECT FROM claim WHERE sale = p_sale AND user_id = p_user) THEN
    code := 3;
  END IF;
END $$;

-- One claim. The hot row is locked after everything that can be read without it, and behind a lock to queue for: who
-- waits for the row itself walks through every version of it that others have made meanwhile, which takes half of the
-- claims away when 64 wait. Who finds that his user or key came in between is rolled back by the unique index, and
-- calls again.
CREATE FUNCTION claim_one(p_sale text, p_user text, p_key text, OUT code int, OUT unit bigint)
LANGUAGE plpgsql AS $$
BEGIN
  SELECT e.code, e.unit INTO code, unit FROM earlier(p_sale, p_user, p_key) e;
  IF code IS NOT NULL THEN
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM sale WHERE sale = p_sale AND sold < units) THEN
    PERFORM pg_advisory_xact_lock(hashtext(p_sale));
    WITH taken AS (
      UPDATE sale SET sold = sold + 1 WHERE sale = p_sale AND sold < units RETURNING sold
    )
    INSERT INTO claim AS c SELECT p_sale, p_key, p_user, taken.sold FROM taken RETURNING c.unit INTO unit;
    IF FOUND THEN
      code := 1;
      RETURN;
    END IF;
  END IF;
  -- Sold out; but whoever read before the last units went may have got one of them meanwhile.
  SELECT e.code, e.unit INTO code, unit FROM earlier(p_sale, p_user, p_key) e;
  code := coalesce(code, 5);
END $$;

-- Many claims, no user and no key twice among them, in one transaction. Locked first, so that nobody else's claim comes
-- in between.
CREATE FUNCTION claim_many(p_sale text, p_users text[], p_keys text[])
RETURNS TABLE (code int, unit bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  sold_before bigint;
  units_left bigint;
  taken bigint;
BEGIN
  SELECT sold, units - sold INTO sold_before, units_left FROM sale WHERE sale = p_sale;
  IF units_left > 0 THEN
    PERFORM pg_advisory_xact_lock(hashtext(p_sale));
    SELECT sold, units - sold INTO sold_before, units_left FROM sale WHERE sale = p_sale FOR UPDATE;
    INSERT INTO claim (sale, key, user_id, unit)
    SELECT p_sale, fresh.key, fresh.user_id, sold_before + row_number() OVER (ORDER BY fresh.place)
    FROM (
      SELECT * FROM unnest(p_users, p_keys) WITH ORDINALITY AS ask (user_id, key, place)
      WHERE NOT EXISTS (SELECT FROM claim c WHERE c.sale = p_sale AND c.key = ask.key)
        AND NOT EXISTS (SELECT FROM claim c WHERE c.sale = p_sale AND c.user_id = ask.user_id)
      ORDER BY place
      LIMIT units_left
    ) AS fresh;
    GET DIAGNOSTICS taken = ROW_COUNT;
    UPDATE sale SET sold = sold + taken WHERE sale = p_sale AND taken > 0;
  END IF;
  RETURN QUERY
    SELECT
      CASE
        WHEN known.user_id = ask.user_id AND known.unit > sold_before THEN 1
        WHEN known.user_id = ask.user_id THEN 2
        WHEN known.user_id IS NOT NULL THEN 4
        WHEN EXISTS (SELECT FROM claim c WHERE c.sale = p_sale AND c.user_id = ask.user_id) THEN 3
        ELSE 5
      END,
      known.unit
    FROM unnest(p_users, p_keys) WITH ORDINALITY AS ask (user_id, key, place)
    LEFT JOIN claim known ON known.sale = p_sale AND known.key = ask.key
    ORDER BY ask.place;
END $$;
