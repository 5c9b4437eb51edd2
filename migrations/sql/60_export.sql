-- What exports add to the maps.

CREATE FUNCTION cut_at_antimeridian(shape geometry) RETURNS geometry
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE
    WHEN ST_XMin(shape) >= -180 AND ST_XMax(shape) <= 180 THEN ST_Multi(shape)
    ELSE ST_Multi(ST_CollectionHomogenize(ST_WrapX(ST_WrapX(shape, 180, -360), -180, 360)))
END;
COMMENT ON FUNCTION cut_at_antimeridian IS
'A shape that runs on past 180 degrees, as parts that do not (RFC 7946, 3.1.9); always a multi-geometry';

CREATE VIEW query_map AS
SELECT
    run_query.id,
    run_query.run_id,
    query.query_set,
    query.name,
    query.path,
    query.width_px,
    query.height_px,
    run_query.status,
    localization.verdict,
    localization.confidence,
    run_query.total_s,
    localization.center
FROM run_query
JOIN query ON query.id = run_query.query_id
LEFT JOIN localization
    ON (localization.run_id, localization.query_id) = (run_query.run_id, run_query.query_id);
COMMENT ON VIEW query_map IS 'Queries of runs, each at the place that was found for its centre';
COMMENT ON COLUMN query_map.id IS 'Key';
COMMENT ON COLUMN query_map.run_id IS 'Run';
COMMENT ON COLUMN query_map.query_set IS 'Set of the query';
COMMENT ON COLUMN query_map.name IS 'Name of the query';
COMMENT ON COLUMN query_map.path IS 'Where its file was';
COMMENT ON COLUMN query_map.width_px IS 'Width of the image';
COMMENT ON COLUMN query_map.height_px IS 'Height of the image';
COMMENT ON COLUMN query_map.status IS 'pending, done or failed';
COMMENT ON COLUMN query_map.verdict IS 'accepted, ambiguous, not_here or failed; null while pending';
COMMENT ON COLUMN query_map.confidence IS 'Estimated probability that the place is right, 0 to 1';
COMMENT ON COLUMN query_map.total_s IS 'Seconds that it took';
COMMENT ON COLUMN query_map.center IS 'Place of its centre pixel; null unless accepted or ambiguous';
