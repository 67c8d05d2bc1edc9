#pragma once

#include <Python.h>

#include <cstdint>
#include <span>

#include "base/wire.hpp"

/// Pickles (protocol 5) of the values that most calls pass: None, booleans, 32-bit integers, floats, short text and
/// bytes, and tuples of them; read are lists of them too. What is written here any unpickler reads, and what Python's
/// pickler makes of such values is read here; the rest is left to the pickle module. Format: Lib/pickletools.py of
/// CPython.
///
/// Threading: with the interpreter's lock.
namespace trireme::python::bind {

/// Appends the pickle; false, with `out` as it was, when the value is none of those.
bool dump_atom(PyObject* value, Bytes& out);
/// The same for a tuple with these items.
bool dump_tuple(std::span<PyObject* const> items, Bytes& out);
/// The same for a call whose arguments at `positions` (in order) are references that come resolved: the package's
/// `[args, kwargs, positions]`, with None in their places.
bool dump_call(std::span<PyObject* const> items, std::span<const std::uint32_t> positions, Bytes& out);
/// A new reference; null without an exception when the pickle holds anything else.
PyObject* load_plain(BytesView pickle);

/// What the C pickler treats alike in every process: atoms of any size, and lists, tuples and dicts of atoms.
bool is_plain(PyObject* value);

}  // namespace trireme::python::bind
