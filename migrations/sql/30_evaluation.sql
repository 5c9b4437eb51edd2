-- Evaluation of stored runs. Only views named evaluation_* read query_truth.
-- Ids are made from run_id, so that "WHERE run_id = ..." reaches the tables and a view costs one run, not all of them.

CREATE VIEW evaluation_query AS
SELECT
    run_query.id,
    run_query.run_id,
    run_query.query_id,
    query.query_set,
    query.name,
    CASE
        WHEN truth.query_id IS NULL THEN 'unlabelled'
        WHEN truth.center IS NULL THEN 'absent'
        WHEN EXISTS (
            SELECT FROM tile
            JOIN embedding_set AS searched USING (gallery_id, level)
            WHERE searched.id = ANY (searched_sets(run.settings))
              AND ST_Intersects(tile.footprint, truth.center)
              AND (run.settings ->> 'within' IS NULL OR ST_Intersects(tile.center, searched_area(run.settings)))
        ) THEN 'present'
        WHEN lost.sets > 0 THEN 'unlabelled'
        ELSE 'uncovered'
    END AS state,
    coalesce(answer.verdict, 'failed') AS verdict,
    answer.confidence,
    ground_distance_m(answer.center, truth.center) AS error_m,
    tiles_apart(answer.center, truth.center, gallery.grid, place.level) AS error_tiles,
    corner.error_m AS corner_error_m,
    (shift.m * cos(shift.angle) / nullif(answer.ellipse_a_m, 0)) ^ 2
        + (shift.m * sin(shift.angle) / nullif(answer.ellipse_b_m, 0)) ^ 2 <= 1 AS in_ellipse,
    is_overlap(top.footprint, truth.footprint, truth.center) AS top_overlaps,
    coalesce(nullif(truth.landscape, ''), 'unknown') AS landscape,
    coalesce(nullif(truth.provider, ''), 'unknown') AS provider,
    truth.simulated,
    coalesce(floor(ST_Y(truth.center) / 10)::integer * 10 || ' to ' || floor(ST_Y(truth.center) / 10)::integer * 10 + 10, 'unknown') AS latitude_band,
    coalesce(top.level::text, first_clique.level::text, 'unknown') AS level,
    CASE
        WHEN greatest(width_px, height_px) < 512 THEN 'under 512 px'
        WHEN greatest(width_px, height_px) < 1024 THEN '512 to 1023 px'
        WHEN greatest(width_px, height_px) < 2048 THEN '1024 to 2047 px'
        WHEN width_px IS NOT NULL THEN '2048 px and more'
        ELSE 'unknown'
    END AS size,
    run_query.total_s
FROM run_query
JOIN run ON run.id = run_query.run_id
JOIN query ON query.id = run_query.query_id
LEFT JOIN query_truth AS truth ON truth.query_id = query.id
LEFT JOIN localization AS answer ON (answer.run_id, answer.query_id) = (run_query.run_id, run_query.query_id)
LEFT JOIN place ON place.id = answer.place_id
LEFT JOIN gallery ON gallery.id = place.gallery_id
LEFT JOIN LATERAL (
    SELECT footprint, level FROM place AS candidate
    WHERE (candidate.run_id, candidate.query_id) = (run_query.run_id, run_query.query_id)
    ORDER BY candidate.rank LIMIT 1
) AS top ON true
LEFT JOIN LATERAL (
    SELECT level FROM clique
    WHERE (clique.run_id, clique.query_id) = (run_query.run_id, run_query.query_id)
    ORDER BY clique.rank LIMIT 1
) AS first_clique ON true
LEFT JOIN LATERAL (
    SELECT sqrt(avg(ground_distance_m(found.geom, expected.geom) ^ 2)) AS error_m
    FROM ST_DumpPoints(answer.corners) AS found
    JOIN ST_DumpPoints(truth.corners) AS expected USING (path)
) AS corner ON true
LEFT JOIN LATERAL (
    SELECT
        ground_distance_m(answer.center, truth.center) AS m,
        -- azimuth is null where both points are one, and any angle will do
        coalesce(ST_Azimuth(answer.center::geography, truth.center::geography), 0)
            - radians(answer.ellipse_azimuth_deg) AS angle
) AS shift ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE embedding_set.id IS NULL) AS sets
    FROM unnest(searched_sets(run.settings)) AS searched (id)
    LEFT JOIN embedding_set USING (id)
) AS lost ON true
WHERE run_query.status <> 'pending';
COMMENT ON VIEW evaluation_query IS 'Each query of a run that is done, judged against its truth';
COMMENT ON COLUMN evaluation_query.id IS 'Key';
COMMENT ON COLUMN evaluation_query.run_id IS 'Run';
COMMENT ON COLUMN evaluation_query.query_id IS 'Query';
COMMENT ON COLUMN evaluation_query.query_set IS 'Set of the query';
COMMENT ON COLUMN evaluation_query.name IS 'Name of the query';
COMMENT ON COLUMN evaluation_query.state IS 'present: a tile that the run searched covers the true centre; uncovered: none does, counted as absent; absent: truth says so; unlabelled: no truth, or none covers it and a gallery that was searched is gone: left out of all shares';
COMMENT ON COLUMN evaluation_query.verdict IS 'accepted, ambiguous, not_here or failed';
COMMENT ON COLUMN evaluation_query.confidence IS 'Estimated probability that the place is right, 0 to 1';
COMMENT ON COLUMN evaluation_query.error_m IS 'Ground distance of the found centre from the true one; null where one is missing';
COMMENT ON COLUMN evaluation_query.error_tiles IS 'The same in tiles of the gallery, the greater of columns and rows; right means less than 1';
COMMENT ON COLUMN evaluation_query.corner_error_m IS 'Root of the mean square of the four corners'' ground distances';
COMMENT ON COLUMN evaluation_query.in_ellipse IS 'Whether the true centre lies in the stated 95 % ellipse';
COMMENT ON COLUMN evaluation_query.top_overlaps IS 'Whether the first place overlaps the truth by 0.0002 x 0.00015 degrees or more, whatever the verdict; null without place';
COMMENT ON COLUMN evaluation_query.landscape IS 'urban, non-urban or unknown';
COMMENT ON COLUMN evaluation_query.provider IS 'Whose image the query is';
COMMENT ON COLUMN evaluation_query.simulated IS 'Whether its appearance was made by a program';
COMMENT ON COLUMN evaluation_query.latitude_band IS 'Ten degrees of latitude around the true centre';
COMMENT ON COLUMN evaluation_query.level IS 'Level of the tiles it was compared with';
COMMENT ON COLUMN evaluation_query.size IS 'Class of its longer side';
COMMENT ON COLUMN evaluation_query.total_s IS 'Seconds in all';

CREATE VIEW evaluation_rank AS
SELECT
    judged.id * 3 AS id,
    judged.run_id,
    judged.query_id,
    'retrieve' AS stage,
    (
        SELECT 1 + count(*) FROM hit
        WHERE (hit.run_id, hit.query_id) = (judged.run_id, judged.query_id)
          AND hit.similarity > near.similarity
    ) AS rank
FROM evaluation_query AS judged
JOIN query_truth AS truth USING (query_id)
CROSS JOIN LATERAL (
    SELECT max(hit.similarity) AS similarity
    FROM hit
    JOIN patch ON patch.id = hit.patch_id
    JOIN gallery ON gallery.id = hit.gallery_id
    WHERE (hit.run_id, hit.query_id) = (judged.run_id, judged.query_id)
      AND tiles_apart(hit.vote, truth.center, gallery.grid, patch.level) < 1
) AS near
WHERE judged.state = 'present' AND near.similarity IS NOT NULL
UNION ALL
SELECT judged.id * 3 + 1, judged.run_id, judged.query_id, 'cliques', near.rank
FROM evaluation_query AS judged
JOIN query_truth AS truth USING (query_id)
CROSS JOIN LATERAL (
    SELECT min(clique.rank) AS rank
    FROM clique
    JOIN gallery ON gallery.id = clique.gallery_id
    WHERE (clique.run_id, clique.query_id) = (judged.run_id, judged.query_id)
      AND tiles_apart(clique.center, truth.center, gallery.grid, clique.level) < 1
) AS near
WHERE judged.state = 'present' AND near.rank IS NOT NULL
UNION ALL
SELECT judged.id * 3 + 2, judged.run_id, judged.query_id, 'verify', near.rank
FROM evaluation_query AS judged
JOIN query_truth AS truth USING (query_id)
CROSS JOIN LATERAL (
    SELECT min(place.rank) AS rank
    FROM place
    JOIN gallery ON gallery.id = place.gallery_id
    WHERE (place.run_id, place.query_id) = (judged.run_id, judged.query_id)
      AND tiles_apart(place.center, truth.center, gallery.grid, place.level) < 1
) AS near
WHERE judged.state = 'present' AND near.rank IS NOT NULL;
COMMENT ON VIEW evaluation_rank IS 'Rank of the true place among the candidates of each stage: the first one whose centre is less than a tile off, along columns and rows. Candidates are hits by similarity (centre = vote), cliques and places by rank. No row: the true place is not among them';
COMMENT ON COLUMN evaluation_rank.id IS 'Key, made of the run''s query and the stage';
COMMENT ON COLUMN evaluation_rank.run_id IS 'Run';
COMMENT ON COLUMN evaluation_rank.query_id IS 'Query, a present one';
COMMENT ON COLUMN evaluation_rank.stage IS 'retrieve, cliques or verify';
COMMENT ON COLUMN evaluation_rank.rank IS 'Rank, from 1';

CREATE VIEW evaluation_recall AS
SELECT
    run.id::bigint * 100 + step.number * 10 + depth.number AS id,
    run.id AS run_id,
    step.stage,
    depth.k,
    counted.found,
    coalesce(judged.present, 0) AS present,
    share(counted.found, judged.present) AS share,
    wilson(counted.found, judged.present, -1) AS share_low,
    wilson(counted.found, judged.present, 1) AS share_high
FROM run
LEFT JOIN (
    SELECT run_id, count(*) FILTER (WHERE state = 'present') AS present FROM evaluation_query GROUP BY run_id
) AS judged ON judged.run_id = run.id
-- ranks are gathered into one row a run, so that they are looked up once and counted often
LEFT JOIN (
    SELECT run_id, array_agg(stage) AS stages, array_agg(rank) AS ranks FROM evaluation_rank GROUP BY run_id
) AS ranked ON ranked.run_id = run.id
CROSS JOIN unnest(ARRAY['retrieve', 'cliques', 'verify']) WITH ORDINALITY AS step (stage, number)
CROSS JOIN unnest(ARRAY[1, 5, 20, 100]) WITH ORDINALITY AS depth (k, number)
CROSS JOIN LATERAL (
    SELECT count(*) AS found
    FROM unnest(ranked.stages, ranked.ranks) AS candidate (stage, rank)
    WHERE candidate.stage = step.stage AND candidate.rank <= depth.k
) AS counted;
COMMENT ON VIEW evaluation_recall IS 'Candidate recall after each stage: share of present queries whose true place is among the first k candidates';
COMMENT ON COLUMN evaluation_recall.id IS 'Key, made of run, stage and k';
COMMENT ON COLUMN evaluation_recall.run_id IS 'Run';
COMMENT ON COLUMN evaluation_recall.stage IS 'retrieve, cliques or verify';
COMMENT ON COLUMN evaluation_recall.k IS 'How many candidates count';
COMMENT ON COLUMN evaluation_recall.found IS 'Queries whose true place is among them';
COMMENT ON COLUMN evaluation_recall.present IS 'Present queries';
COMMENT ON COLUMN evaluation_recall.share IS 'found / present';
COMMENT ON COLUMN evaluation_recall.share_low IS 'Lower end of its Wilson 95 % interval';
COMMENT ON COLUMN evaluation_recall.share_high IS 'Upper end of its Wilson 95 % interval';
