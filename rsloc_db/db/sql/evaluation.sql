-- Runs, truth and evaluation. Used by rsloc_db/db/evaluation.py.

-- name: latest_run
-- The newest run; none where there is no run.
SELECT max(id) FROM run;

-- name: run_exists
-- Whether there is such a run.
SELECT EXISTS (SELECT FROM run WHERE id = %(run)s);

-- name: list_runs
-- All runs, newest first, without their figures.
SELECT
    run.id AS run,
    run.query_set,
    run.created_at,
    run.finished_at,
    run.code_version,
    run.settings ->> 'model' AS model,
    ARRAY(
        SELECT DISTINCT gallery.name
        FROM embedding_set
        JOIN gallery ON gallery.id = embedding_set.gallery_id
        WHERE embedding_set.id = ANY (searched_sets(run.settings))
        ORDER BY gallery.name
    ) AS galleries,
    count(run_query.id) AS queries,
    count(*) FILTER (WHERE run_query.status = 'pending') AS pending,
    count(*) FILTER (WHERE run_query.status = 'failed') AS failed,
    count(*) FILTER (WHERE localization.verdict = 'accepted') AS accepted
FROM run
LEFT JOIN run_query ON run_query.run_id = run.id
LEFT JOIN localization ON (localization.run_id, localization.query_id) = (run_query.run_id, run_query.query_id)
GROUP BY run.id
ORDER BY run.id DESC;

-- name: delete_run
-- Forget a run and all that it found; its queries and their truth stay.
DELETE FROM run WHERE id = %(run)s;

-- name: store_truth
-- Say where a query really is; nothing where no query of that set and name is known. Again means anew, but for
-- what is not said of simulation.
INSERT INTO query_truth (query_id, center, footprint, corners, provider, landscape, simulated, source)
SELECT
    query.id,
    ST_SetSRID(ST_MakePoint(%(lon)s, %(lat)s), 4326),
    -- a ring that runs on past 180 degrees is cut there
    ST_Multi(ST_WrapX(ST_WrapX(ST_MakePolygon(ST_GeomFromText(%(ring)s, 4326)), 180, -360), -180, 360)),
    ST_GeomFromText(%(corners)s, 4326),
    %(provider)s,
    %(landscape)s,
    coalesce(%(simulated)s, false),
    %(source)s
FROM query
WHERE (query.query_set, query.name) = (%(query_set)s, %(name)s)
ON CONFLICT (query_id) DO UPDATE SET
    (center, footprint, corners, provider, landscape, simulated, source)
    = (excluded.center, excluded.footprint, excluded.corners, excluded.provider, excluded.landscape,
       coalesce(%(simulated)s, query_truth.simulated), excluded.source);

-- name: evaluation_run
-- The figures of a run that are one number.
SELECT * FROM evaluation_run WHERE run_id = %(run)s;

-- name: evaluation_located
-- Shares of located queries.
SELECT limit_m, located, present, share, share_low, share_high
FROM evaluation_located WHERE run_id = %(run)s ORDER BY id;

-- name: evaluation_recall
-- Candidate recall after each stage.
SELECT stage, k, found, present, share, share_low, share_high
FROM evaluation_recall WHERE run_id = %(run)s ORDER BY id;

-- name: evaluation_calibration
-- Shares of true centres inside the stated ellipses.
SELECT simulated, accepted, inside, share, share_low, share_high
FROM evaluation_calibration WHERE run_id = %(run)s ORDER BY id;

-- name: evaluation_breakdown
-- The main figures by part.
SELECT
    kind, value, present, absent, accepted, failed, false_places, located_25_m, located_500_m, median_center_error_m
FROM evaluation_breakdown WHERE run_id = %(run)s ORDER BY id;

-- name: evaluation_precision
-- Precision against coverage.
SELECT threshold, placed, correct, labelled, precision, coverage
FROM evaluation_precision WHERE run_id = %(run)s ORDER BY id;

-- name: evaluation_seconds
-- Seconds a query, per stage and in all.
SELECT stage, queries, p50, p90, longest FROM evaluation_seconds WHERE run_id = %(run)s ORDER BY id;

-- name: evaluation_queries
-- Each query of a run, judged, with the rank of its true place after each stage.
SELECT
    judged.name, judged.state, judged.verdict, judged.confidence, judged.error_m, judged.error_tiles, judged.corner_error_m,
    judged.in_ellipse, ranked.retrieve AS retrieve_rank, ranked.cliques AS clique_rank, ranked.verify AS verify_rank,
    judged.total_s
FROM evaluation_query AS judged
LEFT JOIN (
    SELECT
        query_id,
        max(rank) FILTER (WHERE stage = 'retrieve') AS retrieve,
        max(rank) FILTER (WHERE stage = 'cliques') AS cliques,
        max(rank) FILTER (WHERE stage = 'verify') AS verify
    FROM evaluation_rank WHERE run_id = %(run)s GROUP BY query_id
) AS ranked ON ranked.query_id = judged.query_id
WHERE judged.run_id = %(run)s
ORDER BY judged.query_set, judged.name;

-- name: compare_runs
-- Two runs query by query. Right: a present query accepted less than a tile off, an absent one refused. Gained: b is
-- right and a is not. Queries that only one of them has done, and those without truth, are neither gained nor lost.
WITH judged AS MATERIALIZED (
    SELECT
        *,
        CASE state
            WHEN 'present' THEN coalesce(verdict = 'accepted' AND error_tiles < 1, false)
            WHEN 'unlabelled' THEN NULL
            ELSE verdict NOT IN ('accepted', 'failed')
        END AS correct
    FROM evaluation_query
    WHERE run_id IN (%(a)s, %(b)s)
)
SELECT
    query_id,
    name,
    coalesce(b.state, a.state) AS state,
    a.verdict AS verdict_a,
    b.verdict AS verdict_b,
    a.error_m AS error_a_m,
    b.error_m AS error_b_m,
    b.error_m - a.error_m AS change_m,
    CASE
        WHEN a.query_id IS NULL THEN 'only in b'
        WHEN b.query_id IS NULL THEN 'only in a'
        WHEN b.correct AND NOT a.correct THEN 'gained'
        WHEN a.correct AND NOT b.correct THEN 'lost'
        WHEN a.verdict <> b.verdict THEN 'other verdict'
        ELSE 'same'
    END AS outcome
FROM (SELECT * FROM judged WHERE run_id = %(a)s) AS a
FULL JOIN (SELECT * FROM judged WHERE run_id = %(b)s) AS b USING (query_set, name, query_id)
ORDER BY query_set, name;
