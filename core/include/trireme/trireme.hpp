#pragma once

#include "trireme/actor.hpp"
#include "trireme/array.hpp"
#include "trireme/async.hpp"
#include "trireme/group.hpp"
#include "trireme/options.hpp"
#include "trireme/ref.hpp"
#include "trireme/runtime.hpp"
#include "trireme/serialization.hpp"
#include "trireme/task.hpp"
#include "trireme/topology.hpp"
#include "trireme/version.hpp"
