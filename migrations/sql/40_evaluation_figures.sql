-- Figures of runs, all of them out of evaluation_query. Pending queries are left out everywhere.

CREATE VIEW evaluation_located AS
SELECT
    run.id::bigint * 10 + distance.number AS id,
    run.id AS run_id,
    distance.limit_m,
    counted.located,
    counted.present,
    share(counted.located, counted.present) AS share,
    wilson(counted.located, counted.present, -1) AS share_low,
    wilson(counted.located, counted.present, 1) AS share_high
FROM run
LEFT JOIN (
    SELECT
        run_id,
        count(*) AS present,
        array_agg(error_m) FILTER (WHERE verdict = 'accepted') AS errors_m
    FROM evaluation_query
    WHERE state = 'present'
    GROUP BY run_id
) AS judged ON judged.run_id = run.id
CROSS JOIN unnest(ARRAY[5, 10, 25, 50, 100, 500]) WITH ORDINALITY AS distance (limit_m, number)
CROSS JOIN LATERAL (
    SELECT
        coalesce(judged.present, 0) AS present,
        (SELECT count(*) FROM unnest(judged.errors_m) AS error_m WHERE error_m < distance.limit_m) AS located
) AS counted;
COMMENT ON VIEW evaluation_located IS 'Share of present queries that were accepted with a centre error below a limit';
COMMENT ON COLUMN evaluation_located.id IS 'Key, made of run and limit';
COMMENT ON COLUMN evaluation_located.run_id IS 'Run';
COMMENT ON COLUMN evaluation_located.limit_m IS 'Limit of the centre error, ground metres';
COMMENT ON COLUMN evaluation_located.located IS 'Present queries accepted with a smaller error';
COMMENT ON COLUMN evaluation_located.present IS 'Present queries';
COMMENT ON COLUMN evaluation_located.share IS 'located / present';
COMMENT ON COLUMN evaluation_located.share_low IS 'Lower end of its Wilson 95 % interval';
COMMENT ON COLUMN evaluation_located.share_high IS 'Upper end of its Wilson 95 % interval';

CREATE VIEW evaluation_breakdown AS
SELECT
    run_id * 1000000::bigint + row_number() OVER (PARTITION BY run_id ORDER BY part.kind, part.value) AS id,
    run_id,
    part.kind,
    part.value,
    count(*) FILTER (WHERE state = 'present') AS present,
    count(*) FILTER (WHERE state IN ('absent', 'uncovered')) AS absent,
    count(*) FILTER (WHERE state = 'present' AND verdict = 'accepted') AS accepted,
    count(*) FILTER (WHERE verdict = 'failed') AS failed,
    count(*) FILTER (WHERE state IN ('absent', 'uncovered') AND verdict = 'accepted') AS false_places,
    count(*) FILTER (WHERE state = 'present' AND verdict = 'accepted' AND error_m < 25) AS located_25_m,
    count(*) FILTER (WHERE state = 'present' AND verdict = 'accepted' AND error_m < 500) AS located_500_m,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY error_m)
        FILTER (WHERE state = 'present' AND verdict = 'accepted') AS median_center_error_m
FROM evaluation_query
CROSS JOIN LATERAL (
    VALUES
        ('landscape', landscape),
        ('provider', provider),
        ('latitude', latitude_band),
        ('level', level),
        ('query size', size)
) AS part (kind, value)
WHERE state <> 'unlabelled'
GROUP BY run_id, part.kind, part.value;
COMMENT ON VIEW evaluation_breakdown IS 'The main figures by landscape, provider, latitude, level and query size';
COMMENT ON COLUMN evaluation_breakdown.id IS 'Key, made of run and part';
COMMENT ON COLUMN evaluation_breakdown.run_id IS 'Run';
COMMENT ON COLUMN evaluation_breakdown.kind IS 'landscape, provider, latitude, level or query size';
COMMENT ON COLUMN evaluation_breakdown.value IS 'The part';
COMMENT ON COLUMN evaluation_breakdown.present IS 'Present queries of it';
COMMENT ON COLUMN evaluation_breakdown.absent IS 'Absent ones, uncovered ones included';
COMMENT ON COLUMN evaluation_breakdown.accepted IS 'Present ones that were accepted';
COMMENT ON COLUMN evaluation_breakdown.failed IS 'Failed ones, present or absent';
COMMENT ON COLUMN evaluation_breakdown.false_places IS 'Absent ones that were accepted';
COMMENT ON COLUMN evaluation_breakdown.located_25_m IS 'Present ones accepted with a centre error below 25 m';
COMMENT ON COLUMN evaluation_breakdown.located_500_m IS 'Present ones accepted with a centre error below 500 m';
COMMENT ON COLUMN evaluation_breakdown.median_center_error_m IS 'Median centre error of the present and accepted ones';

CREATE VIEW evaluation_precision AS
SELECT
    run_id * 1000000::bigint + row_number() OVER (PARTITION BY run_id ORDER BY threshold DESC) AS id,
    run_id,
    threshold,
    placed,
    correct,
    labelled,
    share(correct, placed) AS precision,
    share(placed, labelled) AS coverage
FROM (
    SELECT
        run_id,
        confidence AS threshold,
        (sum(count(*) FILTER (WHERE confidence IS NOT NULL)) OVER surer)::bigint AS placed,
        (sum(count(*) FILTER (WHERE state = 'present' AND error_tiles < 1)) OVER surer)::bigint AS correct,
        (sum(count(*)) OVER (PARTITION BY run_id))::bigint AS labelled
    FROM (
        SELECT run_id, state, error_tiles, CASE WHEN verdict IN ('accepted', 'ambiguous') THEN confidence END AS confidence
        FROM evaluation_query
        WHERE state <> 'unlabelled'
    ) AS answer
    GROUP BY run_id, confidence
    WINDOW surer AS (PARTITION BY run_id ORDER BY confidence DESC NULLS LAST)
) AS curve
WHERE threshold IS NOT NULL;
COMMENT ON VIEW evaluation_precision IS 'Precision against coverage: what would hold if every place of at least this confidence were accepted';
COMMENT ON COLUMN evaluation_precision.id IS 'Key, made of run and threshold';
COMMENT ON COLUMN evaluation_precision.run_id IS 'Run';
COMMENT ON COLUMN evaluation_precision.threshold IS 'Lowest confidence that counts as accepted';
COMMENT ON COLUMN evaluation_precision.placed IS 'Labelled queries with a place (accepted or ambiguous) of that confidence or more';
COMMENT ON COLUMN evaluation_precision.correct IS 'Those whose centre is less than one tile off; none of the absent ones';
COMMENT ON COLUMN evaluation_precision.labelled IS 'Labelled queries: present and absent';
COMMENT ON COLUMN evaluation_precision.precision IS 'correct / placed';
COMMENT ON COLUMN evaluation_precision.coverage IS 'placed / labelled';

CREATE VIEW evaluation_calibration AS
SELECT
    run_id * 2::bigint + simulated::integer AS id,
    run_id,
    simulated,
    count(*) AS accepted,
    count(*) FILTER (WHERE in_ellipse) AS inside,
    share(count(*) FILTER (WHERE in_ellipse), count(*)) AS share,
    wilson(count(*) FILTER (WHERE in_ellipse), count(*), -1) AS share_low,
    wilson(count(*) FILTER (WHERE in_ellipse), count(*), 1) AS share_high
FROM evaluation_query
WHERE state = 'present' AND verdict = 'accepted'
GROUP BY run_id, simulated;
COMMENT ON VIEW evaluation_calibration IS 'Share of present and accepted queries whose true centre lies in the stated 95 % ellipse, real and simulated ones apart';
COMMENT ON COLUMN evaluation_calibration.id IS 'Key, made of run and simulated';
COMMENT ON COLUMN evaluation_calibration.run_id IS 'Run';
COMMENT ON COLUMN evaluation_calibration.simulated IS 'Whether the queries'' appearance was made by a program';
COMMENT ON COLUMN evaluation_calibration.accepted IS 'Present and accepted queries';
COMMENT ON COLUMN evaluation_calibration.inside IS 'Those whose true centre lies in the ellipse';
COMMENT ON COLUMN evaluation_calibration.share IS 'inside / accepted; 0.95 is right';
COMMENT ON COLUMN evaluation_calibration.share_low IS 'Lower end of its Wilson 95 % interval';
COMMENT ON COLUMN evaluation_calibration.share_high IS 'Upper end of its Wilson 95 % interval';

CREATE VIEW evaluation_seconds AS
SELECT
    run_id * 10::bigint + part.number AS id,
    run_id,
    part.stage,
    count(part.seconds) AS queries,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY part.seconds) AS p50,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY part.seconds) AS p90,
    max(part.seconds)::double precision AS longest
FROM run_query
CROSS JOIN LATERAL (
    VALUES
        (1, 'retrieve', retrieve_s),
        (2, 'cliques', cliques_s),
        (3, 'verify', verify_s),
        (4, 'refine', refine_s),
        (5, 'total', total_s)
) AS part (number, stage, seconds)
WHERE status <> 'pending'
GROUP BY run_id, part.number, part.stage;
COMMENT ON VIEW evaluation_seconds IS 'Seconds a query, per stage and in all';
COMMENT ON COLUMN evaluation_seconds.id IS 'Key, made of run and stage';
COMMENT ON COLUMN evaluation_seconds.run_id IS 'Run';
COMMENT ON COLUMN evaluation_seconds.stage IS 'retrieve, cliques, verify, refine or total';
COMMENT ON COLUMN evaluation_seconds.queries IS 'Queries that came through the stage';
COMMENT ON COLUMN evaluation_seconds.p50 IS 'Median';
COMMENT ON COLUMN evaluation_seconds.p90 IS '90th percentile';
COMMENT ON COLUMN evaluation_seconds.longest IS 'The longest';

CREATE VIEW evaluation_overlap AS
SELECT
    judged.id,
    judged.run_id,
    judged.query_id,
    count(*) AS patches,
    count(*) FILTER (WHERE is_overlap(tile.footprint, truth.footprint, truth.center)) AS overlapping
FROM evaluation_query AS judged
JOIN query_truth AS truth USING (query_id)
JOIN patch USING (run_id, query_id)
LEFT JOIN LATERAL (
    SELECT tile_id FROM hit WHERE hit.patch_id = patch.id ORDER BY rank, similarity DESC LIMIT 1
) AS first_hit ON true
LEFT JOIN tile ON tile.id = first_hit.tile_id
WHERE judged.state = 'present'
GROUP BY judged.id, judged.run_id, judged.query_id;
COMMENT ON VIEW evaluation_overlap IS 'Patches of present queries whose first hit''s tile overlaps the truth by 0.0002 x 0.00015 degrees or more';
COMMENT ON COLUMN evaluation_overlap.id IS 'Key';
COMMENT ON COLUMN evaluation_overlap.run_id IS 'Run';
COMMENT ON COLUMN evaluation_overlap.query_id IS 'Query';
COMMENT ON COLUMN evaluation_overlap.patches IS 'Patches of the query';
COMMENT ON COLUMN evaluation_overlap.overlapping IS 'Those whose first hit overlaps the truth';
