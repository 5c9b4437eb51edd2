-- name: insert_cliques
-- Find where votes of distinct patches of one supposed pose agree, and keep the sets of hits that chance explains least.
--
-- A vote of a posed patch is a whole similarity: centre, turn and zoom. So votes agree if they lie near each other and are
-- of one pose, and no pairs of hits are compared: space is cut into bins of a tile, a first pass sums what each patch's
-- best vote says in windows of 3 x 3 bins, and the best 20 * limit windows are scored about the middle of their votes.
-- Time and memory are linear in the votes (nine rows each) whatever their layout and however many poses, plus, for each
-- of those windows, the votes of its pose within four bins.
-- Score: log-likelihood ratio of "the query is here" against "votes fall here by chance", summed over the pose's patches:
--     ln(1 - p + p * sum over the patch's votes of f(similarity) * k(distance) / lambda),
-- which is ln(1 - p) for a patch without a vote here. p is the chance that a patch has a right hit; f says how much
-- likelier a right hit is of this similarity than a wrong one: 0.3 + 0.7 * exp(z), z in the patch's own standard
-- deviations, scaled to be 1 on average; k is an Epanechnikov kernel of 1.75 tiles, the
-- density of right votes about the place; lambda is the density of the patch's chance votes there: half from its own
-- votes in a ring outside the kernel, to 3.5 tiles, half from a mean patch's in a ring to 4.5 tiles, over all poses, for
-- patches and poses share the landscape.
WITH posed AS MATERIALIZED (
    SELECT id AS patch_id, turn_deg, zoom, min_abs_lat_deg, max_abs_lat_deg,
           dense_rank() OVER (ORDER BY turn_deg, zoom) AS pose
    FROM patch WHERE run_id = %(run_id)s AND query_id = %(query_id)s AND level = %(level)s
), bands AS MATERIALIZED (
    SELECT pose, turn_deg, zoom, min_abs_lat_deg, max_abs_lat_deg, count(*)::float8 AS patches
    FROM posed GROUP BY 1, 2, 3, 4, 5
), votes AS MATERIALIZED (
    SELECT h.id, h.patch_id, p.pose, h.similarity::float8 AS similarity,
           (ST_X(h.vote) + 180.0) / 360.0 * 2 ^ %(level)s AS u, {v} * 2 ^ %(level)s AS v
    FROM hit h JOIN posed p USING (patch_id)
    WHERE h.run_id = %(run_id)s AND h.query_id = %(query_id)s AND h.gallery_id = %(gallery_id)s
), moments AS MATERIALIZED (
    SELECT patch_id, avg(similarity) AS mean, greatest(stddev_pop(similarity), 1e-6) AS sd FROM votes GROUP BY 1
), standing AS MATERIALIZED (
    SELECT v.*, exp((v.similarity - m.mean) / m.sd) AS e FROM votes v JOIN moments m USING (patch_id)
), binned AS MATERIALIZED (
    SELECT s.id, s.patch_id, s.pose, s.u, s.v, 0.3 + 0.7 * s.e / m.mean AS f,
           mod(floor(s.u)::int, (2 ^ %(level)s)::int) AS bu, floor(s.v)::int AS bv
    FROM standing s JOIN (SELECT patch_id, avg(e) AS mean FROM standing GROUP BY 1) m USING (patch_id)
), cells AS MATERIALIZED (
    SELECT bu, bv, count(*) AS n FROM binned GROUP BY 1, 2
), blocks AS (
    SELECT bu >> 2 AS cu, bv >> 2 AS cv, sum(n) AS n FROM cells GROUP BY 1, 2
), density AS MATERIALIZED (
    -- a patch's votes a tile, over 12 x 12 tiles; around a small world a block is its own neighbour, once
    SELECT cu, cv, n / 144.0 / m.patches AS n, 1 / 144.0 / m.patches AS one
    FROM (SELECT near_u AS cu, near_v AS cv, sum(n)::float8 AS n
          FROM (SELECT DISTINCT cu, cv, n, cv + j AS near_v,
                    mod(cu + i + (2 ^ %(level)s)::int / 4, greatest((2 ^ %(level)s)::int / 4, 1)) AS near_u
                FROM blocks CROSS JOIN generate_series(-1, 1) i CROSS JOIN generate_series(-1, 1) j) b
          GROUP BY 1, 2) d
    CROSS JOIN LATERAL (
        SELECT greatest(coalesce(sum(b.patches), 0), 1) AS patches FROM bands b
        WHERE {lat_of_block} BETWEEN b.min_abs_lat_deg - 1 AND b.max_abs_lat_deg + 1
    ) m
), weighed AS MATERIALIZED (
    SELECT b.*, ln(1 + %(p_hit)s / (1 - %(p_hit)s) * f / 9 / greatest(d.n - d.one, d.one)) AS weight
    FROM binned b JOIN density d ON d.cu = b.bu >> 2 AND d.cv = b.bv >> 2
), spread AS (
    -- bins wrap at the antimeridian; the best vote of a patch in a window counts
    SELECT pose, patch_id, mod(bu + i + (2 ^ %(level)s)::int, (2 ^ %(level)s)::int) AS bu, bv + j AS bv,
           max(weight) AS weight
    FROM weighed CROSS JOIN generate_series(-1, 1) i CROSS JOIN generate_series(-1, 1) j
    GROUP BY 1, 2, 3, 4
), top AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY sum(weight) DESC, bu, bv, pose) AS place, pose, bu, bv
    FROM spread GROUP BY pose, bu, bv ORDER BY 1 LIMIT 20 * %(limit)s
), around AS MATERIALIZED (
    SELECT place, pose, bu, bv, i, j,
           mod(bu + i + 4 * (2 ^ %(level)s)::int, (2 ^ %(level)s)::int) AS near_u, bv + j AS near_v
    FROM top CROSS JOIN generate_series(-4, 4) i CROSS JOIN generate_series(-4, 4) j
), common AS MATERIALIZED (
    -- chance votes a tile of a patch of any pose: in the ring of 72 bins
    SELECT a.place, sum(c.n)::float8 AS n
    FROM around a JOIN cells c ON c.bu = a.near_u AND c.bv = a.near_v
    WHERE greatest(abs(i), abs(j)) > 1 GROUP BY a.place
), near AS MATERIALIZED (
    -- the votes of a window's pose about it, seen from the middle of its bin
    SELECT a.place, w.id, w.patch_id, w.f, w.weight, a.i + w.u - floor(w.u) - 0.5 AS x, a.j + w.v - w.bv - 0.5 AS y
    FROM around a JOIN weighed w ON w.pose = a.pose AND w.bu = a.near_u AND w.bv = a.near_v
), middles AS MATERIALIZED (
    SELECT place, sum(x * k) / sum(k) AS x, sum(y * k) / sum(k) AS y
    FROM (SELECT place, x, y, weight * greatest(1 - (x ^ 2 + y ^ 2) / 2.25 ^ 2, 1e-6) AS k FROM near) n
    GROUP BY place
), evidence AS MATERIALIZED (
    SELECT n.place, n.patch_id, sum(f * k) AS fk, count(*) FILTER (WHERE d BETWEEN 1.75 AND 3.5) AS ring
    FROM (SELECT n.place, n.patch_id, n.f, greatest(abs(n.x - m.x), abs(n.y - m.y)) AS d,
                 greatest(0, 1 - ((n.x - m.x) ^ 2 + (n.y - m.y) ^ 2) / 1.75 ^ 2) * 2 / pi() / 1.75 ^ 2 AS k
          FROM near n JOIN middles m USING (place)) n
    GROUP BY 1, 2 HAVING sum(k) > 0
), places AS MATERIALIZED (
    SELECT t.place, t.pose, x.u, x.v, b.turn_deg, b.zoom, b.patches, (coalesce(c.n, 0) + 1) / 72 / b.all_patches AS common
    FROM top t JOIN middles m USING (place) LEFT JOIN common c USING (place)
    CROSS JOIN LATERAL (
        SELECT mod((t.bu + 0.5 + m.x + 2 ^ %(level)s)::numeric, (2 ^ %(level)s)::numeric)::float8 AS u,
               t.bv + 0.5 + m.y AS v
    ) x
    CROSS JOIN LATERAL (
        SELECT max(turn_deg) FILTER (WHERE pose = t.pose) AS turn_deg, max(zoom) FILTER (WHERE pose = t.pose) AS zoom,
               coalesce(sum(patches) FILTER (WHERE pose = t.pose AND near_lat), 0) AS patches,
               greatest(coalesce(sum(patches) FILTER (WHERE near_lat), 0), 1) AS all_patches
        FROM (SELECT *, {lat_of_place} BETWEEN min_abs_lat_deg - 1 AND max_abs_lat_deg + 1 AS near_lat FROM bands) l
    ) b
), scored AS MATERIALIZED (
    SELECT p.*, floor(p.u)::int AS bu, floor(p.v)::int AS bv, e.present,
           e.score + greatest(p.patches - e.present, 0) * ln(1 - %(p_hit)s) AS score
    FROM places p JOIN (
        SELECT place, count(*) AS present,
               sum(ln(1 - %(p_hit)s + %(p_hit)s * fk / (0.5 * ring / 36.75 + 0.5 * common))) AS score
        FROM evidence JOIN places USING (place) GROUP BY place
    ) e USING (place)
), best AS MATERIALIZED (
    -- of neighbouring places the best one stays, whatever its pose; were it of all that overlap, a place could lose to
    -- one that itself loses to a third, far away
    SELECT s.*, row_number() OVER (ORDER BY s.score DESC, s.place) AS rank FROM scored s
    WHERE NOT EXISTS (
        SELECT FROM scored o
        WHERE mod(o.bu - s.bu + 1 + (2 ^ %(level)s)::int, (2 ^ %(level)s)::int) <= 2
          AND abs(o.bv - s.bv) <= 1
          AND (o.score, -o.place) > (s.score, -s.place))
    ORDER BY s.score DESC, s.place LIMIT %(limit)s
), members AS (
    -- of each patch the vote that says most
    SELECT DISTINCT ON (b.rank, n.patch_id) b.rank, n.id AS hit_id
    FROM best b JOIN near n USING (place) JOIN middles m USING (place)
    WHERE (n.x - m.x) ^ 2 + (n.y - m.y) ^ 2 < 1.75 ^ 2
    ORDER BY b.rank, n.patch_id, n.f * (1 - ((n.x - m.x) ^ 2 + (n.y - m.y) ^ 2) / 1.75 ^ 2) DESC, n.id
), inserted AS (
    INSERT INTO clique (run_id, query_id, gallery_id, level, rank, score, patches, center, turn_deg, zoom)
    SELECT %(run_id)s, %(query_id)s, %(gallery_id)s, %(level)s, rank, score, present,
           ST_SetSRID(ST_MakePoint(u / 2 ^ %(level)s * 360.0 - 180.0, {lat_of_center}), 4326), turn_deg, zoom
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
