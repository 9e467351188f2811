"""Every type that Parquet files bring along comes out of a whole job as it went in."""

import datetime as dt
import decimal
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import RunSettings, run

N = 7  # rows, the fourth of them null

NESTED = pa.struct(
    [
        pa.field("id", pa.int32(), nullable=False, metadata={"unit": "none"}),
        ("tags", pa.list_(pa.string())),
        ("inner", pa.struct([("x", pa.float64()), ("when", pa.timestamp("us", "UTC"))])),
    ]
)


def every(kind, value):
    return pa.array([None if n == 3 else value(n) for n in range(N)], kind)


def day(n):
    return dt.date(1999, 12, 28) + dt.timedelta(days=n)


def moment(n):
    return dt.datetime(2024, 2, 28, 23, 59, 59, 123456, dt.UTC) + dt.timedelta(hours=n)


def of_storage(kind, storage):
    return pa.ExtensionArray.from_storage(kind, storage)


def tensors():
    kind = pa.fixed_shape_tensor(pa.int32(), [2, 3])
    return of_storage(kind, every(kind.storage_type, lambda n: list(range(n, n + 6))))


def dictionaries():
    indices = pa.array([None if n == 3 else n % 2 for n in range(N)], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(["red", "blue"]))


def offsets():
    return pa.array(range(N + 1), pa.int32())


def nested_struct(n):
    inner = {"x": n / 3, "when": moment(n)}
    return {"id": n, "tags": ["t"] * n, "inner": inner if n % 2 else None}


COLUMNS = {
    "bool": lambda: every(pa.bool_(), lambda n: n % 2 == 0),
    "null": lambda: pa.nulls(N),
    **{
        f"{sign}int{bits}": lambda bits=bits, sign=sign: every(
            getattr(pa, f"{sign}int{bits}")(), lambda n: 2 ** (bits - (sign == "")) - 1 - n
        )
        for bits in (8, 16, 32, 64)
        for sign in ("", "u")
    },
    "half": lambda: every(pa.float16(), lambda n: n / 2),
    "float": lambda: every(pa.float32(), lambda n: n / 3),
    "double": lambda: every(pa.float64(), lambda n: float("nan") if n == 2 else n / 3),
    "decimal32": lambda: every(pa.decimal32(7, 2), lambda n: decimal.Decimal(f"-{n}.25")),
    "decimal64": lambda: every(pa.decimal64(15, 3), lambda n: decimal.Decimal(f"{n}.125")),
    "decimal128": lambda: every(pa.decimal128(38, 9), lambda n: decimal.Decimal(f"{n}.000000001")),
    "decimal256": lambda: every(pa.decimal256(70, 2), lambda n: decimal.Decimal(f"{10**60 + n}.5")),
    "string": lambda: every(pa.string(), lambda n: "é\0\n" * n),
    "large_string": lambda: every(pa.large_string(), lambda n: "x" * n),
    "string_view": lambda: every(pa.string_view(), lambda n: "a long enough text " * n),
    "binary": lambda: every(pa.binary(), lambda n: bytes([n, 255])),
    "large_binary": lambda: every(pa.large_binary(), lambda n: bytes([n, 255])),
    "binary_view": lambda: every(pa.binary_view(), lambda n: bytes([n, 255]) * 9),
    "fixed_size_binary": lambda: every(pa.binary(3), lambda n: bytes([n, n, 255])),
    "date32": lambda: every(pa.date32(), day),
    "date64": lambda: every(pa.date64(), day),
    "time32_s": lambda: every(pa.time32("s"), lambda n: n * 1000),
    "time32_ms": lambda: every(pa.time32("ms"), lambda n: n * 1001),
    "time64_us": lambda: every(pa.time64("us"), lambda n: n * 1000001),
    "time64_ns": lambda: every(pa.time64("ns"), lambda n: n * 1000000001),
    **{
        f"timestamp_{unit}{zone or ''}": lambda unit=unit, zone=zone: every(
            pa.timestamp(unit, zone), lambda n: 10**9 * n + n
        )
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "Europe/Paris", "+05:30")
    },
    **{
        f"duration_{unit}": lambda unit=unit: every(pa.duration(unit), lambda n: 10**9 * n + n)
        for unit in ("s", "ms", "us", "ns")
    },
    "list": lambda: every(pa.list_(pa.int16()), lambda n: [None, *range(n)]),
    "large_list": lambda: every(pa.large_list(pa.string()), lambda n: ["s"] * n),
    "fixed_size_list": lambda: every(pa.list_(pa.float32(), 2), lambda n: [n, n / 2]),
    "list_of_list": lambda: every(pa.list_(pa.list_(pa.date32())), lambda n: [[], None, [day(n)]]),
    "list_of_struct": lambda: every(pa.list_(NESTED), lambda n: [nested_struct(n)] * (n % 3)),
    "struct": lambda: every(NESTED, nested_struct),
    "map": lambda: every(pa.map_(pa.string(), NESTED), lambda n: [("k", nested_struct(n))]),
    "map_of_map": lambda: every(
        pa.map_(pa.int32(), pa.map_(pa.string(), pa.float64())), lambda n: [(n, [("a", 0.5)])]
    ),
    "list_of_null": lambda: every(pa.list_(pa.null()), lambda n: [None] * n),
    "dictionary": dictionaries,
    "ordered_dictionary": lambda: pa.DictionaryArray.from_arrays(
        dictionaries().indices, dictionaries().dictionary, ordered=True
    ),
    "list_of_dictionary": lambda: pa.ListArray.from_arrays(offsets(), dictionaries()),
    "struct_of_dictionary": lambda: pa.StructArray.from_arrays([dictionaries()], ["colour"]),
    "uuid": lambda: of_storage(pa.uuid(), every(pa.binary(16), lambda n: uuid.UUID(int=n).bytes)),
    "json": lambda: of_storage(pa.json_(), every(pa.string(), lambda n: f'{{"n": {n}}}')),
    "bool8": lambda: of_storage(pa.bool8(), every(pa.int8(), lambda n: n % 2)),
    "fixed_shape_tensor": tensors,
    "opaque": lambda: of_storage(
        pa.opaque(pa.binary(), "geometry", "somebody"), every(pa.binary(), lambda n: bytes([n]))
    ),
    "list_of_uuid": lambda: pa.ListArray.from_arrays(
        offsets(),
        of_storage(pa.uuid(), pa.array([uuid.UUID(int=n).bytes for n in range(N)], pa.binary(16))),
    ),
}
# Types that pyarrow writes to no Parquet file, or reads from none, with what it says.
UNWRITABLE = {
    "interval": (pa.month_day_nano_interval(), lambda n: (n, n, n), "Unhandled type"),
    "empty_struct": (pa.struct([]), lambda n: {}, "no child field|Cannot write struct"),
    "union": (None, None, "Unhandled type"),
    "run_end_encoded": (None, None, "Unhandled type"),
}


def complete(source, output, **options):
    run(RunSettings(str(source), str(output), max_new_tokens=0, check_rows=0, **options))
    return pq.read_table(output)


def rows_in_group(name):
    return 3 if name not in ("list_of_dictionary", "struct_of_dictionary") else 2


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_each_type_survives(tmp_path, name):
    column = COLUMNS[name]()
    field = pa.field("x", column.type, metadata={"note": "kept", "é": "\0"})
    schema = pa.schema([pa.field("prompt", pa.string()), field], metadata={"who": "somebody"})
    table = pa.table([["one"] * N, column], schema=schema)
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=rows_in_group(name))
    given = pq.read_table(tmp_path / "in.parquet")
    found = complete(tmp_path / "in.parquet", tmp_path / "out.parquet")
    metadata = {k: v for k, v in found.schema.metadata.items() if k != b"picobatch"}
    assert metadata == {b"who": b"somebody"}
    kept = found.select(["prompt", "x"]).replace_schema_metadata(metadata)
    if name == "double":  # NaN equals nothing
        assert str(kept["x"].to_pylist()) == str(given["x"].to_pylist())
        assert kept.schema.equals(given.schema, check_metadata=True)
        return
    assert kept.equals(given, check_metadata=True)
    plain = pa.int64() if "_ns" in name else None  # Python has no such time
    found, given = (c.cast(plain) if plain else c for c in (kept["x"], column))
    assert found.to_pylist() == given.to_pylist()


def test_a_column_that_is_never_null(tmp_path):
    field = pa.field("x", pa.list_(pa.field("e", pa.int32(), nullable=False)), nullable=False)
    schema = pa.schema([pa.field("prompt", pa.string(), nullable=False), field])
    pq.write_table(pa.table([["a", "b"], [[1], []]], schema=schema), tmp_path / "in.parquet")
    found = complete(tmp_path / "in.parquet", tmp_path / "out.parquet").select(["prompt", "x"])
    given = pq.read_table(tmp_path / "in.parquet")
    assert found.replace_schema_metadata(None).equals(given, check_metadata=True)
    assert found.schema.field("x").nullable is False


@pytest.mark.parametrize("sizes", [[0], [0, 3, 0, 0, 2], [1] * 50])
def test_row_groups_of_any_number_and_none(tmp_path, sizes):
    schema = pa.schema([("prompt", pa.string()), ("x", pa.int64())])
    with pq.ParquetWriter(tmp_path / "in.parquet", schema) as writer:
        for first, n in zip(range(0, 999, 9), sizes, strict=False):
            rows = [{"prompt": "one", "x": first + i} for i in range(n)]
            writer.write_table(pa.Table.from_pylist(rows, schema))
    found = complete(tmp_path / "in.parquet", tmp_path / "out.parquet").select(["prompt", "x"])
    assert found.equals(pq.read_table(tmp_path / "in.parquet"))
    assert found.num_rows == sum(sizes)


def test_a_file_without_row_groups(tmp_path):
    schema = pa.schema([pa.field("prompt", pa.string(), metadata={"a": "b"})])
    pq.ParquetWriter(tmp_path / "in.parquet", schema).close()
    found = complete(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert (found.num_rows, found.schema.field("prompt").metadata) == (0, {b"a": b"b"})


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_no_parquet_file_can_hold(tmp_path, name):
    """If one of these is written some day, it belongs among the columns above."""
    kind, value, said = UNWRITABLE[name]
    if name == "union":
        column = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    elif name == "run_end_encoded":
        column = pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["a"]))
    else:
        column = pa.array([value(1)], kind)
    with pytest.raises(pa.ArrowException, match=said):
        pq.write_table(pa.table({"x": column}), tmp_path / "in.parquet")
