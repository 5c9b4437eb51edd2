-- name: insert_cliques
-- Find where votes of distinct patches of one supposed pose agree, and keep the sets of hits that chance explains
-- least.
--
-- A vote of a posed patch is a whole similarity: centre, turn and zoom. So votes agree if they lie near each other and
-- are of one pose, and no pairs of hits are compared: space is cut into bins of 1.5 tiles, a first pass sums what the
-- best vote of each patch says in windows of 2 x 2 bins (four rows a vote), and the best 10 * limit windows are scored
-- about the middle of their votes, with the votes of their pose in 6 x 6 bins. Time and memory are linear in the votes,
-- whatever their layout and however many poses, but for those windows: a vote is in 36 of them at most.
-- Score: log-likelihood ratio of "the query is here" against "votes fall here by chance", summed over the patches of
-- the pose:
--     ln(1 - p + p * sum over the patch's votes of f(similarity) * k(distance) / lambda),
-- which is ln(1 - p) for a patch without a vote here. p is the chance that a patch has a right hit; f says how much
-- likelier a right hit is of this similarity than a wrong one: 0.5 + 0.5 * exp(z), z in standard deviations of the
-- patch's own hits, exp(z) scaled to be 1 on average; k is an Epanechnikov kernel of 1.75 tiles, the density of right
-- votes about the place; lambda is the density of the patch's chance votes there: half from its own votes outside the
-- kernel, to 3.5 tiles, half from a mean patch's in the 32 bins about the window, over all poses, for patches and poses
-- share the landscape.
WITH posed AS MATERIALIZED (
    SELECT id AS patch_id, turn_deg, zoom, min_abs_lat_deg, max_abs_lat_deg,
           dense_rank() OVER (ORDER BY turn_deg, zoom) AS pose
    FROM patch WHERE run_id = %(run_id)s AND query_id = %(query_id)s AND level = %(level)s
), bands AS MATERIALIZED (
    SELECT pose, turn_deg, zoom, min_abs_lat_deg, max_abs_lat_deg, count(*)::float8 AS patches
    FROM posed GROUP BY 1, 2, 3, 4, 5
), votes AS MATERIALIZED (
    SELECT v.*, mod(floor(u / %(bin)s)::int, %(bins)s) AS bu, floor(v / %(bin)s)::int AS bv
    FROM (SELECT h.id, h.patch_id, p.pose, h.similarity::float8 AS similarity,
                 (ST_X(h.vote) + 180.0) / 360.0 * %(tiles)s AS u, {v} * %(tiles)s AS v
          FROM hit h JOIN posed p USING (patch_id)
          WHERE h.run_id = %(run_id)s AND h.query_id = %(query_id)s AND h.gallery_id = %(gallery_id)s) v
), moments AS MATERIALIZED (
    SELECT patch_id, avg(similarity) AS mean, greatest(stddev_pop(similarity), 1e-6) AS sd FROM votes GROUP BY 1
), standing AS MATERIALIZED (
    SELECT patch_id, min(m.mean) AS mean, min(m.sd) AS sd, avg(exp((v.similarity - m.mean) / m.sd)) AS usual
    FROM votes v JOIN moments m USING (patch_id) GROUP BY 1
), cells AS MATERIALIZED (
    SELECT bu, bv, count(*)::float8 AS n FROM votes GROUP BY 1, 2
), lines AS MATERIALIZED (
    -- patches of all poses whose latitudes include a line of bins
    SELECT l.bv, greatest(sum(b.patches), 1) AS patches
    FROM (SELECT DISTINCT bv FROM cells) l
    LEFT JOIN bands b ON {lat_of_line} BETWEEN b.min_abs_lat_deg - 1 AND b.max_abs_lat_deg + 1
    GROUP BY l.bv
), blocks AS MATERIALIZED (
    SELECT bu / 3 AS cu, bv / 3 AS cv, sum(n) AS n FROM cells GROUP BY 1, 2
), across AS MATERIALIZED (
    -- votes in 9 x 3 bins; around a small world a block is its own neighbour, once
    SELECT mod(cu + i + (%(bins)s + 2) / 3, (%(bins)s + 2) / 3) AS cu, cv, sum(n) AS n
    FROM blocks CROSS JOIN generate_series(-1, 1) i
    WHERE i < (%(bins)s + 2) / 3 - 1
    GROUP BY 1, 2
), reach AS MATERIALIZED (
    SELECT cu, cv, cv + j AS near_v FROM blocks CROSS JOIN generate_series(-1, 1) j
), density AS MATERIALIZED (
    -- votes in 9 x 9 bins
    SELECT b.cu, b.cv, sum(o.n) AS n FROM reach b JOIN across o ON o.cu = b.cu AND o.cv = b.near_v GROUP BY 1, 2
), weighed AS MATERIALIZED (
    -- the vote itself is no chance vote; one vote is the least that is supposed
    SELECT b.*,
           ln(1 + %(p_hit)s / (1 - %(p_hit)s) * f * (3 * %(bin)s) ^ 2 * l.patches / greatest(d.n - 1, 1)) AS weight
    FROM (SELECT v.id, v.patch_id, v.pose, v.u, v.v, v.bu, v.bv,
                 0.5 + 0.5 * exp((v.similarity - s.mean) / s.sd) / s.usual AS f
          FROM votes v JOIN standing s USING (patch_id)) b
    JOIN density d ON d.cu = b.bu / 3 AND d.cv = b.bv / 3 JOIN lines l USING (bv)
), spread AS (
    -- a window is named by its last bin; the best vote of a patch in it counts
    SELECT b.pose, b.patch_id, mod(b.bu + i, %(bins)s) AS bu, b.bv + j AS bv, max(b.weight) AS weight
    FROM weighed b CROSS JOIN generate_series(0, 1) i CROSS JOIN generate_series(0, 1) j
    GROUP BY 1, 2, 3, 4
), top AS MATERIALIZED (
    SELECT row_number() OVER () AS place, t.* FROM (
        SELECT pose, bu, bv FROM spread GROUP BY pose, bu, bv
        ORDER BY sum(weight) DESC, bu, bv, pose LIMIT 10 * %(limit)s) t
), around AS MATERIALIZED (
    SELECT t.*, mod(t.bu + i + 3 * %(bins)s, %(bins)s) AS near_u, t.bv + j AS near_v,
           i NOT IN (-1, 0) OR j NOT IN (-1, 0) AS outside
    FROM top t CROSS JOIN generate_series(-3, 2) i CROSS JOIN generate_series(-3, 2) j
    WHERE i < %(bins)s - 3
), common AS MATERIALIZED (
    -- chance votes a tile of a mean patch about a window; one more than were found, for there may be none
    SELECT place, (coalesce(sum(c.n), 0) + 1) / 32 / %(bin)s ^ 2 / max(coalesce(l.patches, 1)) AS lambda
    FROM around a LEFT JOIN lines l USING (bv)
    LEFT JOIN cells c ON c.bu = a.near_u AND c.bv = a.near_v AND a.outside
    GROUP BY place
), near AS MATERIALIZED (
    -- the votes of a window's pose about it, in tiles from its middle
    SELECT a.place, b.id, b.patch_id, b.f, b.weight, x.x - %(tiles)s * round(x.x / %(tiles)s) AS x,
           b.v - a.bv * %(bin)s AS y
    FROM around a JOIN weighed b ON b.pose = a.pose AND b.bu = a.near_u AND b.bv = a.near_v
    CROSS JOIN LATERAL (SELECT b.u - a.bu * %(bin)s AS x) x
), middles AS MATERIALIZED (
    SELECT place, sum(x * k) / sum(k) AS x, sum(y * k) / sum(k) AS y
    FROM (SELECT place, x, y, weight * greatest(1 - (x ^ 2 + y ^ 2) / 2.25 ^ 2, 1e-6) AS k FROM near) n
    GROUP BY place
), centered AS MATERIALIZED (
    SELECT n.place, n.id, n.patch_id, n.x, n.y, greatest(abs(n.x - m.x), abs(n.y - m.y)) BETWEEN 1.75 AND 3.5 AS beside,
           n.f * greatest(0, 1 - ((n.x - m.x) ^ 2 + (n.y - m.y) ^ 2) / 1.75 ^ 2) * 2 / pi() / 1.75 ^ 2 AS fk
    FROM near n JOIN middles m USING (place)
), evidence AS (
    SELECT e.place, e.fk, e.x, e.y, %(p_hit)s * e.fk / (0.5 * e.beside / 36.75 + 0.5 * c.lambda) AS ratio
    FROM (SELECT place, patch_id, sum(fk) AS fk, count(*) FILTER (WHERE beside) AS beside,
                 sum(fk * x) / sum(fk) AS x, sum(fk * y) / sum(fk) AS y
          FROM centered GROUP BY 1, 2 HAVING sum(fk) > 0) e
    JOIN common c USING (place)
), places AS (
    -- a patch counts for the centre by how likely it is that its votes are right ones, if the query is here
    SELECT t.place, t.pose, e.present, e.score, t.bv * %(bin)s + e.y AS v,
           mod((t.bu * %(bin)s + e.x + %(tiles)s)::numeric, %(tiles)s::numeric)::float8 AS u
    FROM top t JOIN (
        SELECT place, count(*) AS present, sum(ln(1 - %(p_hit)s + ratio)) AS score,
               sum(x * sure) / sum(sure) AS x, sum(y * sure) / sum(sure) AS y
        FROM (SELECT *, ratio / (1 - %(p_hit)s + ratio) AS sure FROM evidence) v GROUP BY place
    ) e USING (place)
), scored AS MATERIALIZED (
    SELECT p.place, p.present, p.u, p.v, floor(p.u)::int AS bu, floor(p.v)::int AS bv,
           min(b.turn_deg) AS turn_deg, min(b.zoom) AS zoom,
           p.score + ln(1 - %(p_hit)s) * greatest(coalesce(sum(b.patches) FILTER (
               WHERE {lat_of_place} BETWEEN b.min_abs_lat_deg - 1 AND b.max_abs_lat_deg + 1
           ), 0) - p.present, 0) AS score
    FROM places p JOIN bands b USING (pose)
    GROUP BY p.place, p.present, p.u, p.v, p.score
), best AS MATERIALIZED (
    -- of neighbouring places the best one stays, whatever its pose; were it of all that overlap, a place could lose to
    -- one that itself loses to a third, far away
    SELECT s.*, row_number() OVER (ORDER BY s.score DESC, s.place) AS rank FROM scored s
    WHERE s.place NOT IN (
        SELECT n.place
        FROM (SELECT a.place, a.score, mod(a.bu + i + %(tiles)s, %(tiles)s) AS near_u, a.bv + j AS near_v
              FROM scored a CROSS JOIN generate_series(-1, 1) i CROSS JOIN generate_series(-1, 1) j) n
        JOIN scored o ON o.bu = n.near_u AND o.bv = n.near_v
        WHERE (o.score, -o.place) > (n.score, -n.place))
    ORDER BY s.score DESC, s.place LIMIT %(limit)s
), members AS (
    -- of each patch the vote that says most
    SELECT DISTINCT ON (b.rank, c.patch_id) b.rank, c.id AS hit_id
    FROM best b JOIN centered c USING (place) WHERE c.fk > 0
    ORDER BY b.rank, c.patch_id, c.fk DESC, c.id
), inserted AS (
    INSERT INTO clique (run_id, query_id, gallery_id, level, rank, score, patches, center, turn_deg, zoom)
    SELECT %(run_id)s, %(query_id)s, %(gallery_id)s, %(level)s, rank, score, present,
           ST_SetSRID(ST_MakePoint(u / %(tiles)s * 360.0 - 180.0, {lat_of_center}), 4326), turn_deg, zoom
    FROM best
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

-- name: run_hits
-- The hits of a run's queries as they lie, north up and at the stated scale, by the widest windows: patches, tiles and
-- votes, for other ways to find cliques in them.
SELECT q.id, q.name, q.path, h.gallery_id, g.name, p.level, p.id, p.x_px, p.y_px, p.width_px, p.height_px,
       t.tile_column, t.tile_row, ST_X(t.center), ST_Y(t.center), ST_X(h.vote), ST_Y(h.vote)
FROM hit h
JOIN patch p ON p.id = h.patch_id
JOIN query q ON q.id = h.query_id
JOIN gallery g ON g.id = h.gallery_id
JOIN tile t ON t.id = h.tile_id
WHERE h.run_id = %(run_id)s AND p.turn_deg = 0 AND p.zoom = 1
  AND p.window_tiles = (SELECT max(w.window_tiles) FROM patch w
                        WHERE w.run_id = p.run_id AND w.query_id = p.query_id AND w.level = p.level)
ORDER BY q.id, h.gallery_id, p.level, p.id, h.rank;
