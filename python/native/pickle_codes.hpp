#pragma once

namespace trireme::python::bind {

/// Opcodes of Python's pickle protocol 4 (PEP 3154) that are written (bind_plain.cpp) or read (bind_loading.cpp)
/// without the pickle module.
enum PickleCode : unsigned char {
  kProto = 0x80,
  kStop = '.',
  kMark = '(',
  kNone = 'N',
  kTrue = 0x88,
  kFalse = 0x89,
  kInt1 = 'K',
  kInt2 = 'M',
  kInt4 = 'J',
  kFloat = 'G',
  kBytes1 = 'C',
  kText1 = 0x8c,
  kTuple0 = ')',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kTuple = 't',
  kList0 = ']',
  kAppend = 'a',
  kAppends = 'e',
  kDict0 = '}',
  kMemoize = 0x94,
  kFrame = 0x95,
  kGlobal = 0x93,
  kGet1 = 'h',
  kReduce = 'R',
};

}  // namespace trireme::python::bind
