"""Keys are found on the lines they stand on."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.settings.lines import line_of, lines_of

TEXT = r"""# a comment with = and [brackets]
first = 1
list = [
  "a = 1", # c ]
  { b = 2 },
]
text = ~
second = 2
[table]
\~ = x ~ # x
raw = '''
[[x]]
'''

[table]
"quoted \u00e9" = 'it\'
[table.inner]
a.b = { c = 1 }
[[items]]
name = 1
[items.sub]
deep = 1
[[items]]
name = 2
[[items.rows]]
x = 1
[[items.rows]]
x = 2
""".replace("~", '"' * 3)


def test_every_construct():
    """Strings, comments, arrays and tables within lists do not confuse the count."""
    tomllib.loads(TEXT)
    lines = lines_of(TEXT)
    expected = {
        ("first",): 2,
        ("list",): 3,
        ("text",): 7,
        ("raw",): 11,
        ("table",): 15,
        ("table", "quoted é"): 16,
        ("table", "inner"): 17,
        ("table", "inner", "a"): 18,
        ("table", "inner", "a", "b"): 18,
        ("items",): 19,
        ("items", 0): 19,
        ("items", 0, "name"): 20,
        ("items", 0, "sub"): 21,
        ("items", 0, "sub", "deep"): 22,
        ("items", 1): 23,
        ("items", 1, "name"): 24,
        ("items", 1, "rows"): 25,
        ("items", 1, "rows", 0): 25,
        ("items", 1, "rows", 0, "x"): 26,
        ("items", 1, "rows", 1): 27,
        ("items", 1, "rows", 1, "x"): 28,
    }
    assert lines == expected


def test_nearest_holder():
    """A key within an inline table is answered with the line of its holder."""
    lines = lines_of("a = 1\nb = { c = { d = 1 } }")
    assert line_of(("b", "c", "d"), lines) == 2
    assert line_of(("z",), lines) is None


KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
VALUES = st.sampled_from(
    [
        "1",
        "true",
        "'a # b'",
        '"x = [1"',
        '"\\"]"',
        "[1, [2,\n 3]]",
        "'''\n[t]\nk = 1\n'''",
        '"""a""b\n"\\"" """',
        '"""a""\n"""""',
        "{ a = 1 }",
    ]
)
BEFORE = st.sampled_from(["", "# note = 1\n", "\n", "  \t\n"])


@given(st.dictionaries(KEYS, st.tuples(VALUES, BEFORE), max_size=8))
def test_lines_of_generated_files(entries):
    """In any file of keys, comments and awkward values each key is found where it was written."""
    text, expected = "", {}
    for key, (value, before) in entries.items():
        text += before
        expected[(key,)] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    tomllib.loads(text)
    assert lines_of(text) == expected
