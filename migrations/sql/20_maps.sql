-- Views to draw: QGIS reads each as one layer (one typed geometry, unique integer key). None of them knows the truth.

CREATE VIEW coverage_map AS
SELECT
    gallery_id::bigint << 50 | level::bigint << 44 | block_column::bigint << 22 | block_row AS id,
    gallery.name AS gallery,
    level,
    tiles,
    first_at,
    last_at,
    footprint::geometry(Polygon, 4326) AS footprint
FROM (
    SELECT
        gallery_id,
        level,
        tile_column >> 4 AS block_column,
        tile_row >> 4 AS block_row,
        count(*) AS tiles,
        min(captured_at) AS first_at,
        max(captured_at) AS last_at,
        ST_SetSRID(ST_Extent(footprint)::geometry, 4326) AS footprint
    FROM tile
    GROUP BY gallery_id, level, tile_column >> 4, tile_row >> 4
) AS block
JOIN gallery ON gallery.id = block.gallery_id;
COMMENT ON VIEW coverage_map IS 'Where galleries have tiles, in blocks of up to 16 x 16 cells';
COMMENT ON COLUMN coverage_map.id IS 'Key, made of gallery, level and block';
COMMENT ON COLUMN coverage_map.gallery IS 'Name of the gallery';
COMMENT ON COLUMN coverage_map.level IS 'Level of the tiles';
COMMENT ON COLUMN coverage_map.tiles IS 'Tiles in the block, all dates counted';
COMMENT ON COLUMN coverage_map.first_at IS 'Date of the oldest image';
COMMENT ON COLUMN coverage_map.last_at IS 'Date of the newest image';
COMMENT ON COLUMN coverage_map.footprint IS 'Box around the block''s tiles';

CREATE VIEW vote_map AS
SELECT
    hit.id,
    hit.run_id,
    query.query_set,
    query.name,
    hit.patch_id,
    patch.level,
    patch.window_tiles,
    hit.tile_id,
    hit.rank,
    hit.similarity,
    hit.vote
FROM hit
JOIN query ON query.id = hit.query_id
JOIN patch ON patch.id = hit.patch_id;
COMMENT ON VIEW vote_map IS 'Votes of hits: where a query''s centre lies if the hit is right. Filter by run_id and name';
COMMENT ON COLUMN vote_map.id IS 'Key: the hit''s';
COMMENT ON COLUMN vote_map.run_id IS 'Run';
COMMENT ON COLUMN vote_map.query_set IS 'Set of the query';
COMMENT ON COLUMN vote_map.name IS 'Name of the query';
COMMENT ON COLUMN vote_map.patch_id IS 'Patch of the query';
COMMENT ON COLUMN vote_map.level IS 'Level of the tiles that it was compared with';
COMMENT ON COLUMN vote_map.window_tiles IS 'Width of the windows that it was compared with, in tiles';
COMMENT ON COLUMN vote_map.tile_id IS 'Tile that was found';
COMMENT ON COLUMN vote_map.rank IS '1 for the most similar tile of the patch';
COMMENT ON COLUMN vote_map.similarity IS 'Cosine of the angle between the two vectors';
COMMENT ON COLUMN vote_map.vote IS 'Where the query''s centre would lie';

CREATE VIEW clique_map AS
SELECT
    clique.id,
    clique.run_id,
    query.query_set,
    query.name,
    clique.rank,
    clique.score,
    clique.patches,
    line.lines::geometry(MultiLineString, 4326) AS lines
FROM clique
JOIN query ON query.id = clique.query_id
LEFT JOIN LATERAL (
    -- the shorter way: across the antimeridian a line runs on past 180 degrees
    SELECT ST_Multi(ST_Collect(ST_MakeLine(
        clique.center,
        ST_Translate(tile.center, 360 * round((ST_X(clique.center) - ST_X(tile.center)) / 360), 0)
    ))) AS lines
    FROM clique_hit
    JOIN hit ON hit.id = clique_hit.hit_id
    JOIN tile ON tile.id = hit.tile_id
    WHERE clique_hit.clique_id = clique.id
) AS line ON true;
COMMENT ON VIEW clique_map IS 'Cliques as stars: lines from where they put the query''s centre to the tiles of their hits';
COMMENT ON COLUMN clique_map.id IS 'Key: the clique''s';
COMMENT ON COLUMN clique_map.run_id IS 'Run';
COMMENT ON COLUMN clique_map.query_set IS 'Set of the query';
COMMENT ON COLUMN clique_map.name IS 'Name of the query';
COMMENT ON COLUMN clique_map.rank IS '1 for the least likely to have come about by chance';
COMMENT ON COLUMN clique_map.score IS 'Log-likelihood ratio against the local density of votes';
COMMENT ON COLUMN clique_map.patches IS 'How many patches agree';
COMMENT ON COLUMN clique_map.lines IS 'A line to the centre of each tile';

CREATE VIEW place_map AS
SELECT
    place.id,
    place.run_id,
    query.query_set,
    query.name,
    place.rank,
    place.correlation,
    place.evidence,
    localization.id IS NOT NULL AS chosen,
    place.footprint
FROM place
JOIN query ON query.id = place.query_id
LEFT JOIN localization ON localization.place_id = place.id;
COMMENT ON VIEW place_map IS 'Candidate places after verification, with what the query would cover there';
COMMENT ON COLUMN place_map.id IS 'Key: the place''s';
COMMENT ON COLUMN place_map.run_id IS 'Run';
COMMENT ON COLUMN place_map.query_set IS 'Set of the query';
COMMENT ON COLUMN place_map.name IS 'Name of the query';
COMMENT ON COLUMN place_map.rank IS '1 for the place with the most evidence';
COMMENT ON COLUMN place_map.correlation IS 'Normalised correlation of gradient maps, -1 to 1';
COMMENT ON COLUMN place_map.evidence IS '-log10 of the number of false alarms';
COMMENT ON COLUMN place_map.chosen IS 'Whether the answer was made from it';
COMMENT ON COLUMN place_map.footprint IS 'What the query would cover';

CREATE VIEW match_map AS
SELECT
    match.id,
    match.run_id,
    query.query_set,
    query.name,
    match.score,
    match.residual_m,
    match.inlier,
    ST_MakeLine(
        ST_Transform(
            ST_SetSRID(
                ST_MakePoint(t[1] * x_px + t[2] * y_px + t[3], t[4] * x_px + t[5] * y_px + t[6]),
                transform_srid
            ),
            4326
        ),
        match.location
    )::geometry(LineString, 4326) AS line
FROM match
JOIN query ON query.id = match.query_id
JOIN localization ON localization.place_id = match.place_id
CROSS JOIN LATERAL (SELECT localization.transform AS t) AS fitted;
COMMENT ON VIEW match_map IS 'Matches of chosen places as lines: from where the fitted transform puts a block to where it was found';
COMMENT ON COLUMN match_map.id IS 'Key: the match''s';
COMMENT ON COLUMN match_map.run_id IS 'Run';
COMMENT ON COLUMN match_map.query_set IS 'Set of the query';
COMMENT ON COLUMN match_map.name IS 'Name of the query';
COMMENT ON COLUMN match_map.score IS 'Peak of the block''s correlation, -1 to 1';
COMMENT ON COLUMN match_map.residual_m IS 'Length of the line on the ground';
COMMENT ON COLUMN match_map.inlier IS 'Whether it agrees with the transform';
COMMENT ON COLUMN match_map.line IS 'From the fitted to the found point; null where no transform was kept';

CREATE VIEW localization_map AS
SELECT
    localization.id,
    localization.run_id,
    query.query_set,
    query.name,
    verdict,
    reason,
    confidence,
    ST_X(center) AS lon_deg,
    ST_Y(center) AS lat_deg,
    ellipse_a_m,
    ellipse_b_m,
    footprint
FROM localization
JOIN query ON query.id = localization.query_id;
COMMENT ON VIEW localization_map IS 'Answers, with what each query covers';
COMMENT ON COLUMN localization_map.id IS 'Key: the localization''s';
COMMENT ON COLUMN localization_map.run_id IS 'Run';
COMMENT ON COLUMN localization_map.query_set IS 'Set of the query';
COMMENT ON COLUMN localization_map.name IS 'Name of the query';
COMMENT ON COLUMN localization_map.verdict IS 'accepted, ambiguous, not_here or failed';
COMMENT ON COLUMN localization_map.reason IS 'Why, in one sentence';
COMMENT ON COLUMN localization_map.confidence IS 'Estimated probability that the place is right, 0 to 1';
COMMENT ON COLUMN localization_map.lon_deg IS 'Longitude of the centre pixel';
COMMENT ON COLUMN localization_map.lat_deg IS 'Latitude of the centre pixel';
COMMENT ON COLUMN localization_map.ellipse_a_m IS 'Semi-major axis of the 95 % ellipse, ground metres';
COMMENT ON COLUMN localization_map.ellipse_b_m IS 'Semi-minor axis of the 95 % ellipse, ground metres';
COMMENT ON COLUMN localization_map.footprint IS 'What the query covers; null where no place was found';

CREATE VIEW ellipse_map AS
SELECT
    localization.id,
    localization.run_id,
    query.query_set,
    query.name,
    verdict,
    ellipse_a_m,
    ellipse_b_m,
    ellipse_azimuth_deg,
    ellipse
FROM localization
JOIN query ON query.id = localization.query_id
WHERE ellipse IS NOT NULL;
COMMENT ON VIEW ellipse_map IS '95 % ellipses of the centres of answers';
COMMENT ON COLUMN ellipse_map.id IS 'Key: the localization''s';
COMMENT ON COLUMN ellipse_map.run_id IS 'Run';
COMMENT ON COLUMN ellipse_map.query_set IS 'Set of the query';
COMMENT ON COLUMN ellipse_map.name IS 'Name of the query';
COMMENT ON COLUMN ellipse_map.verdict IS 'accepted or ambiguous';
COMMENT ON COLUMN ellipse_map.ellipse_a_m IS 'Semi-major axis, ground metres';
COMMENT ON COLUMN ellipse_map.ellipse_b_m IS 'Semi-minor axis, ground metres';
COMMENT ON COLUMN ellipse_map.ellipse_azimuth_deg IS 'Direction of the semi-major axis, clockwise from north';
COMMENT ON COLUMN ellipse_map.ellipse IS 'The ellipse';
