-- Small functions that the views share. They are inlined, or run once a row.

CREATE FUNCTION ground_distance_m(a geometry, b geometry) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN ST_Distance(a::geography, b::geography);
COMMENT ON FUNCTION ground_distance_m IS
'Metres along the ground (geodesic on WGS 84) between two geometries in EPSG:4326; the antimeridian is no border';

CREATE FUNCTION tiles_apart(a geometry, b geometry, grid text, level integer) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest(
    -- the shorter way round the Earth
    180 - abs(180 - abs(ST_X(a) - ST_X(b))),
    abs(ST_Y(a) - ST_Y(b)) / CASE grid WHEN 'web_mercator' THEN greatest(cos(radians(ST_Y(b))), 1e-6) ELSE 1 END
) * 2 ^ level / 360;
COMMENT ON FUNCTION tiles_apart IS
'How far a point lies from another one in tiles of a grid and level: the greater of columns and rows, with fractions';

CREATE FUNCTION is_overlap(found geometry, true_footprint geometry, true_center geometry) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN true_footprint IS NULL THEN ST_Intersects(found, true_center)
    ELSE EXISTS (
        SELECT FROM ST_Dump(ST_Intersection(found, true_footprint)) AS part
        WHERE ST_XMax(part.geom) - ST_XMin(part.geom) >= 0.0002
          AND ST_YMax(part.geom) - ST_YMin(part.geom) >= 0.00015
    )
END;
COMMENT ON FUNCTION is_overlap IS
'Whether an area overlaps the truth as the RSLoc authors count it: by 0.0002 degrees of longitude and 0.00015 of latitude or more; where only the true centre is known, whether it lies inside';

CREATE FUNCTION share(part bigint, total bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN part::double precision / nullif(total, 0);
COMMENT ON FUNCTION share IS 'part / total, null where total is 0';

CREATE FUNCTION wilson(part bigint, total bigint, side integer) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN total > 0 THEN greatest(0, least(1, (
    part + 1.959964 ^ 2 / 2
    + side * 1.959964 * sqrt(part::double precision * (total - part) / total + 1.959964 ^ 2 / 4)
) / (total + 1.959964 ^ 2))) END;
COMMENT ON FUNCTION wilson IS
'Lower (side -1) or upper (side 1) end of the Wilson 95 % interval of a share, null where total is 0';

CREATE FUNCTION searched_sets(settings jsonb) RETURNS integer[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(
    SELECT jsonb_array_elements_text(
        CASE jsonb_typeof(settings -> 'embedding_sets') WHEN 'array' THEN settings -> 'embedding_sets' ELSE '[]' END
    )::integer
);
COMMENT ON FUNCTION searched_sets IS 'Embedding sets that a run searched, by its settings';

CREATE FUNCTION searched_area(settings jsonb) RETURNS geometry
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ST_SetSRID(ST_GeomFromGeoJSON(settings ->> 'within'), 4326);
COMMENT ON FUNCTION searched_area IS 'Polygon that a run was limited to, by its settings, null where it was not';
