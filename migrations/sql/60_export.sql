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

CREATE VIEW evaluation_strip AS
SELECT
    run_query.id,
    run_query.run_id,
    run_query.query_id,
    query.query_set,
    query.name,
    query.path,
    coalesce(judged.verdict, 'pending') AS verdict,
    coalesce(answer.reason, '') AS reason,
    judged.confidence,
    coalesce(judged.state, 'unlabelled') AS state,
    judged.error_m,
    judged.in_ellipse,
    judged.total_s,
    CASE
        WHEN run_query.status = 'pending' THEN 'pending'
        WHEN judged.verdict = 'failed' THEN 'failed'
        WHEN judged.state = 'unlabelled' THEN 'unlabelled'
        WHEN judged.state <> 'present' THEN CASE judged.verdict WHEN 'accepted' THEN 'false place' ELSE 'rightly refused' END
        WHEN judged.verdict <> 'accepted' THEN 'missed'
        WHEN judged.error_tiles < 1 THEN 'right'
        ELSE 'misplaced'
    END AS outcome,
    gallery.name AS gallery,
    best.level,
    best.turn_deg,
    best.footprint AS best_footprint,
    answer.corners AS found_corners,
    truth.corners AS true_corners
FROM run_query
JOIN query ON query.id = run_query.query_id
LEFT JOIN evaluation_query AS judged ON (judged.run_id, judged.query_id) = (run_query.run_id, run_query.query_id)
LEFT JOIN localization AS answer ON (answer.run_id, answer.query_id) = (run_query.run_id, run_query.query_id)
LEFT JOIN query_truth AS truth ON truth.query_id = query.id
LEFT JOIN LATERAL (
    SELECT gallery_id, level, turn_deg, footprint FROM place
    WHERE (place.run_id, place.query_id) = (run_query.run_id, run_query.query_id)
    ORDER BY place.rank LIMIT 1
) AS best ON true
LEFT JOIN gallery ON gallery.id = best.gallery_id;
COMMENT ON VIEW evaluation_strip IS 'What a report shows of each query: what became of it, and where to look in the gallery';
COMMENT ON COLUMN evaluation_strip.id IS 'Key';
COMMENT ON COLUMN evaluation_strip.run_id IS 'Run';
COMMENT ON COLUMN evaluation_strip.query_id IS 'Query';
COMMENT ON COLUMN evaluation_strip.query_set IS 'Set of the query';
COMMENT ON COLUMN evaluation_strip.name IS 'Name of the query';
COMMENT ON COLUMN evaluation_strip.path IS 'Where its file was';
COMMENT ON COLUMN evaluation_strip.verdict IS 'accepted, ambiguous, not_here, failed or pending';
COMMENT ON COLUMN evaluation_strip.reason IS 'Why, in one sentence';
COMMENT ON COLUMN evaluation_strip.confidence IS 'Estimated probability that the place is right, 0 to 1';
COMMENT ON COLUMN evaluation_strip.state IS 'present, absent, uncovered or unlabelled';
COMMENT ON COLUMN evaluation_strip.error_m IS 'Ground distance from the true centre';
COMMENT ON COLUMN evaluation_strip.in_ellipse IS 'Whether the true centre lies in the stated 95 % ellipse';
COMMENT ON COLUMN evaluation_strip.total_s IS 'Seconds that it took';
COMMENT ON COLUMN evaluation_strip.outcome IS 'false place, misplaced (a tile or more away), missed, failed, right, rightly refused, unlabelled or pending';
COMMENT ON COLUMN evaluation_strip.gallery IS 'Gallery of the best place; null where there is none';
COMMENT ON COLUMN evaluation_strip.level IS 'Level of its tiles';
COMMENT ON COLUMN evaluation_strip.turn_deg IS 'Supposed direction of the query''s upper edge there, clockwise from north';
COMMENT ON COLUMN evaluation_strip.best_footprint IS 'What the query would cover at its best place, chosen or not';
COMMENT ON COLUMN evaluation_strip.found_corners IS 'Corners of the answer: upper left, upper right, lower right, lower left';
COMMENT ON COLUMN evaluation_strip.true_corners IS 'True corners, in the same order';

CREATE VIEW evaluation_outcome_map AS
SELECT
    localization.id,
    strip.run_id,
    strip.query_set,
    strip.name,
    strip.verdict,
    strip.outcome,
    strip.confidence,
    strip.error_m,
    strip.in_ellipse,
    localization.footprint
FROM evaluation_strip AS strip
JOIN localization ON (localization.run_id, localization.query_id) = (strip.run_id, strip.query_id);
COMMENT ON VIEW evaluation_outcome_map IS 'Answers judged by the truth, with what each query covers';
COMMENT ON COLUMN evaluation_outcome_map.id IS 'Key: the localization''s';
COMMENT ON COLUMN evaluation_outcome_map.run_id IS 'Run';
COMMENT ON COLUMN evaluation_outcome_map.query_set IS 'Set of the query';
COMMENT ON COLUMN evaluation_outcome_map.name IS 'Name of the query';
COMMENT ON COLUMN evaluation_outcome_map.verdict IS 'accepted, ambiguous, not_here or failed';
COMMENT ON COLUMN evaluation_outcome_map.outcome IS 'As in evaluation_strip';
COMMENT ON COLUMN evaluation_outcome_map.confidence IS 'Estimated probability that the place is right, 0 to 1';
COMMENT ON COLUMN evaluation_outcome_map.error_m IS 'Ground distance from the true centre';
COMMENT ON COLUMN evaluation_outcome_map.in_ellipse IS 'Whether the true centre lies in the stated 95 % ellipse';
COMMENT ON COLUMN evaluation_outcome_map.footprint IS 'What the query covers; null where no place was found';
