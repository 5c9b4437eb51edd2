-- Runs at a glance, two runs side by side, and errors to draw.

CREATE VIEW evaluation_run AS
SELECT
    run.id,
    run.id AS run_id,
    run.query_set,
    run.created_at,
    run.finished_at,
    run.code_version,
    run.settings ->> 'model' AS model,
    searched.names AS galleries,
    searched.tiles AS gallery_tiles,
    searched.missing AS missing_sets,
    (SELECT count(*) FROM run_query WHERE run_id = run.id AND status = 'pending') AS pending,
    figures.*,
    wilson(figures.failed, figures.queries, -1) AS failed_low,
    wilson(figures.failed, figures.queries, 1) AS failed_high,
    wilson(figures.false_places, figures.absent, -1) AS false_places_low,
    wilson(figures.false_places, figures.absent, 1) AS false_places_high,
    overlap.acc_easy,
    overlap.img_acc,
    (SELECT max(peak_memory_mb) FROM run_query WHERE run_id = run.id) AS peak_memory_mb
FROM run
CROSS JOIN LATERAL (
    SELECT
        count(*) AS queries,
        count(*) FILTER (WHERE state = 'present') AS present,
        count(*) FILTER (WHERE state IN ('absent', 'uncovered')) AS absent,
        count(*) FILTER (WHERE state = 'uncovered') AS uncovered,
        count(*) FILTER (WHERE state = 'unlabelled') AS unlabelled,
        count(*) FILTER (WHERE verdict = 'accepted') AS accepted,
        count(*) FILTER (WHERE verdict = 'ambiguous') AS ambiguous,
        count(*) FILTER (WHERE verdict = 'not_here') AS not_here,
        count(*) FILTER (WHERE verdict = 'failed') AS failed,
        count(*) FILTER (WHERE state IN ('absent', 'uncovered') AND verdict = 'accepted') AS false_places,
        count(*) FILTER (WHERE state = 'present' AND verdict = 'accepted' AND error_tiles >= 1) AS misplaced,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY error_m)
            FILTER (WHERE state = 'present' AND verdict = 'accepted') AS median_center_error_m,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY corner_error_m)
            FILTER (WHERE state = 'present' AND verdict = 'accepted') AS median_corner_error_m,
        percentile_cont(0.9) WITHIN GROUP (ORDER BY corner_error_m)
            FILTER (WHERE state = 'present' AND verdict = 'accepted') AS p90_corner_error_m,
        share(
            count(*) FILTER (WHERE state = 'present' AND top_overlaps), count(*) FILTER (WHERE state = 'present')
        ) AS acc
    FROM evaluation_query
    WHERE run_id = run.id
) AS figures
CROSS JOIN LATERAL (
    SELECT
        share(count(*) FILTER (WHERE overlapping > 0), figures.present) AS acc_easy,
        coalesce(sum(overlapping::double precision / patches), 0) / nullif(figures.present, 0) AS img_acc
    FROM evaluation_overlap
    WHERE run_id = run.id
) AS overlap
CROSS JOIN LATERAL (
    SELECT
        array_agg(DISTINCT gallery.name) FILTER (WHERE gallery.id IS NOT NULL) AS names,
        count(*) FILTER (WHERE embedding_set.id IS NULL) AS missing,
        (
            SELECT count(*) FROM tile
            WHERE (gallery_id, level) IN (
                SELECT gallery_id, level FROM embedding_set WHERE id = ANY (searched_sets(run.settings))
            )
        ) AS tiles
    FROM unnest(searched_sets(run.settings)) AS searched (id)
    LEFT JOIN embedding_set USING (id)
    LEFT JOIN gallery ON gallery.id = embedding_set.gallery_id
) AS searched;
COMMENT ON VIEW evaluation_run IS 'Runs at a glance; all figures that are one number';
COMMENT ON COLUMN evaluation_run.id IS 'Key: the run''s';
COMMENT ON COLUMN evaluation_run.run_id IS 'Run';
COMMENT ON COLUMN evaluation_run.query_set IS 'What was localized';
COMMENT ON COLUMN evaluation_run.created_at IS 'When it began';
COMMENT ON COLUMN evaluation_run.finished_at IS 'When its last query was done; null while it goes on';
COMMENT ON COLUMN evaluation_run.code_version IS 'Version of the package';
COMMENT ON COLUMN evaluation_run.model IS 'Model that embedded queries and galleries';
COMMENT ON COLUMN evaluation_run.galleries IS 'Galleries that were searched';
COMMENT ON COLUMN evaluation_run.gallery_tiles IS 'Tiles of the levels that were searched, now';
COMMENT ON COLUMN evaluation_run.missing_sets IS 'Embedding sets that were searched and are no longer in the database; queries that no tile covers then count as unlabelled';
COMMENT ON COLUMN evaluation_run.pending IS 'Queries not done yet, left out of all other figures';
COMMENT ON COLUMN evaluation_run.queries IS 'Queries done';
COMMENT ON COLUMN evaluation_run.present IS 'Queries whose true centre a gallery tile covers';
COMMENT ON COLUMN evaluation_run.absent IS 'Queries that are in no gallery, uncovered ones included';
COMMENT ON COLUMN evaluation_run.uncovered IS 'Queries with a true place that no gallery tile covers';
COMMENT ON COLUMN evaluation_run.unlabelled IS 'Queries without truth';
COMMENT ON COLUMN evaluation_run.accepted IS 'Queries with the verdict accepted';
COMMENT ON COLUMN evaluation_run.ambiguous IS 'Queries with the verdict ambiguous';
COMMENT ON COLUMN evaluation_run.not_here IS 'Queries with the verdict not_here';
COMMENT ON COLUMN evaluation_run.failed IS 'Queries that failed, which is no refusal';
COMMENT ON COLUMN evaluation_run.false_places IS 'Absent queries that were accepted';
COMMENT ON COLUMN evaluation_run.failed_low IS 'Lower end of the Wilson 95 % interval of failed / queries';
COMMENT ON COLUMN evaluation_run.failed_high IS 'Upper end of it';
COMMENT ON COLUMN evaluation_run.false_places_low IS 'Lower end of the Wilson 95 % interval of false_places / absent';
COMMENT ON COLUMN evaluation_run.false_places_high IS 'Upper end of it';
COMMENT ON COLUMN evaluation_run.misplaced IS 'Present queries that were accepted a tile or more away';
COMMENT ON COLUMN evaluation_run.median_center_error_m IS 'Median centre error of present and accepted queries, ground metres';
COMMENT ON COLUMN evaluation_run.median_corner_error_m IS 'Median of their corner errors, each the root mean square of four ground distances';
COMMENT ON COLUMN evaluation_run.p90_corner_error_m IS '90th percentile of their corner errors';
COMMENT ON COLUMN evaluation_run.acc IS 'Acc of the RSLoc authors: share of present queries whose first place, whatever the verdict, overlaps the truth by 0.0002 x 0.00015 degrees or more';
COMMENT ON COLUMN evaluation_run.acc_easy IS 'Acc_easy of the RSLoc authors: share of present queries of which any patch''s first hit does';
COMMENT ON COLUMN evaluation_run.img_acc IS 'IMG_acc of the RSLoc authors: mean over present queries of the share of patches whose first hit does';
COMMENT ON COLUMN evaluation_run.peak_memory_mb IS 'Largest resident memory of its processes, megabytes';

CREATE VIEW evaluation_error_map AS
SELECT
    localization.id,
    localization.run_id,
    query.query_set,
    query.name,
    localization.verdict,
    ground_distance_m(localization.center, truth.center) AS error_m,
    -- the shorter way: across the antimeridian the line runs on past 180 degrees
    ST_MakeLine(
        localization.center,
        ST_Translate(
            truth.center, 360 * round((ST_X(localization.center) - ST_X(truth.center)) / 360), 0
        )
    )::geometry(LineString, 4326) AS line
FROM localization
JOIN query ON query.id = localization.query_id
JOIN query_truth AS truth ON truth.query_id = query.id
WHERE localization.center IS NOT NULL AND truth.center IS NOT NULL;
COMMENT ON VIEW evaluation_error_map IS 'Lines from found centres to true ones';
COMMENT ON COLUMN evaluation_error_map.id IS 'Key: the localization''s';
COMMENT ON COLUMN evaluation_error_map.run_id IS 'Run';
COMMENT ON COLUMN evaluation_error_map.query_set IS 'Set of the query';
COMMENT ON COLUMN evaluation_error_map.name IS 'Name of the query';
COMMENT ON COLUMN evaluation_error_map.verdict IS 'accepted or ambiguous';
COMMENT ON COLUMN evaluation_error_map.error_m IS 'Length on the ground';
COMMENT ON COLUMN evaluation_error_map.line IS 'From the found to the true centre';

CREATE VIEW evaluation_truth_map AS
SELECT
    query.id,
    query.query_set,
    query.name,
    truth.provider,
    truth.landscape,
    truth.simulated,
    truth.source,
    truth.footprint
FROM query
JOIN query_truth AS truth ON truth.query_id = query.id;
COMMENT ON VIEW evaluation_truth_map IS 'Where queries really are';
COMMENT ON COLUMN evaluation_truth_map.id IS 'Key: the query''s';
COMMENT ON COLUMN evaluation_truth_map.query_set IS 'Set of the query';
COMMENT ON COLUMN evaluation_truth_map.name IS 'Name of the query';
COMMENT ON COLUMN evaluation_truth_map.provider IS 'Whose image it is';
COMMENT ON COLUMN evaluation_truth_map.landscape IS 'urban, non-urban or empty';
COMMENT ON COLUMN evaluation_truth_map.simulated IS 'Whether its appearance was made by a program';
COMMENT ON COLUMN evaluation_truth_map.source IS 'File that the truth was read from';
COMMENT ON COLUMN evaluation_truth_map.footprint IS 'What it covers; null where it is in no gallery, or unknown';
