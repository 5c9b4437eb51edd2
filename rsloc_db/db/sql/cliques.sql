-- name: insert_cliques
-- Find where votes of distinct patches agree, and keep the sets of hits that chance explains least.
--
-- Space is cut into bins of half a tile; a candidate is a window of 3 x 3 bins (1.5 tiles), so the spatial join of votes
-- is an equality join of at most nine rows a vote: time and memory are linear in the votes, whatever their layout.
-- Score: log-likelihood ratio, patch by patch, of "the query is here" against "votes fall here by chance":
--     sum over patches with a vote here    of ln(p_hit * f(rank) / lambda)
--   + sum over patches without a vote here of ln((1 - p_hit) / (1 - lambda)),
-- where lambda is the chance of a vote in the window at the local density of votes (a neighbourhood of 24 x 24 tiles)
-- and f(rank) says how much likelier a right hit is at this rank than a wrong one, 1 on average.
WITH votes AS MATERIALIZED (
    SELECT h.id, h.patch_id, {weight} AS weight,
           (ST_X(h.vote) + 180.0) / 360.0 * 2 ^ %(level)s AS u, {v} * 2 ^ %(level)s AS v,
           ST_Y(h.vote) AS lat
    FROM hit h JOIN patch p ON p.id = h.patch_id
    WHERE h.run_id = %(run_id)s AND h.query_id = %(query_id)s
      AND h.gallery_id = %(gallery_id)s AND p.level = %(level)s
), binned AS MATERIALIZED (
    SELECT id, patch_id, weight, u, v, floor(2 * u)::int AS bu, floor(2 * v)::int AS bv FROM votes
), spread AS (
    -- bins wrap at the antimeridian; the best vote of a patch in a window counts
    SELECT patch_id, mod(bu + i + 2 * (2 ^ %(level)s)::int, 2 * (2 ^ %(level)s)::int) AS bu, bv + j AS bv,
           max(weight) AS weight
    FROM binned CROSS JOIN generate_series(-1, 1) i CROSS JOIN generate_series(-1, 1) j
    GROUP BY 1, 2, 3
), windows AS MATERIALIZED (
    SELECT bu, bv, count(*) AS present, sum(ln(weight)) AS log_weight FROM spread GROUP BY bu, bv
), blocks AS (
    SELECT bu >> 4 AS cu, bv >> 4 AS cv, count(*) AS n FROM binned GROUP BY 1, 2
), density AS MATERIALIZED (
    -- votes in 3 x 3 blocks of 8 x 8 tiles, 256 windows; around a small world a block is its own neighbour, once
    SELECT near_u AS cu, near_v AS cv, sum(n) AS n
    FROM (SELECT DISTINCT cu, cv, n, cv + j AS near_v,
              mod(cu + i + (2 ^ %(level)s)::int / 8, greatest((2 ^ %(level)s)::int / 8, 1)) AS near_u
          FROM blocks CROSS JOIN generate_series(-1, 1) i CROSS JOIN generate_series(-1, 1) j) b
    GROUP BY 1, 2
), bands AS MATERIALIZED (
    SELECT min_abs_lat_deg, max_abs_lat_deg, count(*) AS patches FROM patch
    WHERE run_id = %(run_id)s AND query_id = %(query_id)s AND level = %(level)s
    GROUP BY 1, 2
), top AS MATERIALIZED (
    -- the score but for patches without a vote, which is cheap: by size alone the crowded places would be all that stays
    SELECT w.bu, w.bv, w.present, w.log_weight, d.n, {lat_of_bin} AS abs_lat
    FROM windows w JOIN density d ON d.cu = w.bu >> 4 AND d.cv = w.bv >> 4
    CROSS JOIN (SELECT sum(patches)::float8 AS patches FROM bands) a
    ORDER BY w.log_weight + w.present * ln(%(p_hit)s * 256.0 * a.patches / greatest(d.n - w.present, 0.1)) DESC, bu, bv
    LIMIT 20 * %(limit)s
), scored AS MATERIALIZED (
    SELECT t.bu, t.bv, t.present, m.patches,
           t.log_weight + t.present * ln(%(p_hit)s / l.lambda)
           + greatest(m.patches - t.present, 0) * ln((1 - %(p_hit)s) / (1 - l.lambda)) AS score
    FROM top t
    CROSS JOIN LATERAL (
        SELECT greatest(coalesce(sum(b.patches), 0), t.present)::float8 AS patches FROM bands b
        WHERE t.abs_lat BETWEEN b.min_abs_lat_deg - 1 AND b.max_abs_lat_deg + 1
    ) m
    CROSS JOIN LATERAL (
        SELECT least(0.5, greatest((t.n - t.present) / 256.0 / m.patches, 1e-4))::float8 AS lambda
    ) l
), best AS MATERIALIZED (
    -- of neighbouring windows the best one stays; were it of all that overlap, a window could lose to one that itself
    -- loses to a third, far away
    SELECT s.*, row_number() OVER (ORDER BY s.score DESC, s.bu, s.bv) AS rank FROM scored s
    WHERE NOT EXISTS (
        SELECT FROM scored o
        WHERE mod(o.bu - s.bu + 1 + 2 * (2 ^ %(level)s)::int, 2 * (2 ^ %(level)s)::int) <= 2
          AND abs(o.bv - s.bv) <= 1
          AND (o.score, o.bu, o.bv) > (s.score, s.bu, s.bv))
    ORDER BY s.score DESC, s.bu, s.bv LIMIT %(limit)s
), members AS MATERIALIZED (
    SELECT DISTINCT ON (b.rank, v.patch_id) b.rank, v.id AS hit_id, v.weight, v.v,
           v.u + CASE WHEN v.bu - b.bu > 2 THEN -(2 ^ %(level)s) WHEN b.bu - v.bu > 2 THEN 2 ^ %(level)s ELSE 0 END AS u
    FROM (SELECT rank, bu, mod(bu + i + 2 * (2 ^ %(level)s)::int, 2 * (2 ^ %(level)s)::int) AS near_u, bv + j AS near_v
          FROM best CROSS JOIN generate_series(-1, 1) i CROSS JOIN generate_series(-1, 1) j) b
    JOIN binned v ON v.bu = b.near_u AND v.bv = b.near_v
    ORDER BY b.rank, v.patch_id, v.weight DESC, v.id
), centers AS (
    SELECT rank, sum(u * weight) / sum(weight) / 2 ^ %(level)s AS x, sum(v * weight) / sum(weight) / 2 ^ %(level)s AS y
    FROM members GROUP BY rank
), inserted AS (
    INSERT INTO clique (run_id, query_id, gallery_id, level, rank, score, patches, center)
    SELECT %(run_id)s, %(query_id)s, %(gallery_id)s, %(level)s, b.rank, b.score, b.present,
           ST_SetSRID(ST_MakePoint(mod((c.x + 1)::numeric, 1.0)::float8 * 360.0 - 180.0, {lat_of_y}), 4326)
    FROM best b JOIN centers c USING (rank)
    RETURNING id, rank
)
INSERT INTO clique_hit (clique_id, hit_id)
SELECT i.id, m.hit_id FROM inserted i JOIN members m USING (rank);

-- name: clique_candidates
-- The cliques of a query, least likely by chance first.
SELECT id, gallery_id, level, score, patches, ST_X(center), ST_Y(center), turn_deg, zoom FROM clique
WHERE run_id = %(run_id)s AND query_id = %(query_id)s
ORDER BY score DESC, id LIMIT %(limit)s;

-- name: rank_cliques
-- Rank the cliques of a query over all gallery levels that were searched.
UPDATE clique c SET rank = r.rank
FROM (SELECT id, row_number() OVER (ORDER BY score DESC, id) AS rank FROM clique
      WHERE run_id = %(run_id)s AND query_id = %(query_id)s) r
WHERE c.id = r.id AND c.rank <> r.rank;
