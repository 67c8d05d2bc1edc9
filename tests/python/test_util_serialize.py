"""inspect_serializability names the part that cannot be sent; custom serializers send what pickle cannot."""

import io
import threading

import pytest

from trireme.util import deregister_serializer, inspect_serializability, log_once, register_serializer


def names(failures):
    return {failure.name for failure in failures}


def test_what_can_be_serialized_passes():
    out = io.StringIO()
    assert inspect_serializability({"a": [1, 2, (3, "x")]}, name="values", print_file=out) == (True, set())
    assert "values" in out.getvalue()


def test_a_lock_in_a_dict_is_named_with_its_path():
    out = io.StringIO()
    ok, failures = inspect_serializability({"outer": [1, {"inner": threading.Lock()}]}, name="config", print_file=out)
    assert not ok
    assert [failure.path for failure in failures] == ["config['outer'][1]['inner']"]
    assert "config['outer'][1]['inner']" in out.getvalue()


def test_a_captured_variable_is_named():
    guard = threading.Lock()
    harmless = 3

    def function():
        return guard, harmless

    ok, failures = inspect_serializability(function, print_file=io.StringIO())
    assert not ok
    assert names(failures) == {"guard"}
    assert next(iter(failures)).obj is guard


def test_an_attribute_is_named():
    class Holder:
        def __init__(self):
            self.fine = 1
            self.lock = threading.Lock()

    ok, failures = inspect_serializability(Holder(), name="holder", print_file=io.StringIO())
    assert not ok
    assert [failure.path for failure in failures] == ["holder.lock"]


def test_depth_bounds_the_search():
    nested = {"a": {"b": {"c": threading.Lock()}}}
    _, failures = inspect_serializability(nested, name="n", depth=1, print_file=io.StringIO())
    assert [failure.path for failure in failures] == ["n['a']"]
    with pytest.raises(ValueError, match="depth"):
        inspect_serializability(nested, depth=0, print_file=io.StringIO())


def test_objects_that_contain_themselves_end():
    loop = {"lock": threading.Lock()}
    loop["self"] = loop
    ok, failures = inspect_serializability(loop, name="loop", print_file=io.StringIO())
    assert not ok
    assert [failure.path for failure in failures] == ["loop['lock']"]


class Handle:
    """Holds a lock, so pickle refuses it."""

    def __init__(self, value):
        self.value = value
        self.lock = threading.Lock()


def test_a_custom_serializer_is_used_and_can_be_taken_back(runtime):
    @runtime.remote
    def value_of(handle):
        return handle.value, type(handle.lock).__name__

    register_serializer(Handle, serializer=lambda handle: handle.value, deserializer=Handle)
    try:
        assert runtime.get(value_of.remote(Handle(5))) == (5, "lock")
        assert runtime.get(runtime.put([Handle(6)]))[0].value == 6
    finally:
        deregister_serializer(Handle)
    with pytest.raises(TypeError):
        runtime.put(Handle(7))


def test_log_once():
    assert log_once("test key")
    assert not log_once("test key")
    assert log_once("another test key")
