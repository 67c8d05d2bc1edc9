#!/bin/sh
# Runs a command as one rank of a launcher or local cluster with a node identity of its own, so that ranks of one machine take the
# path between nodes.
rank=${TRIREME_LOCAL_RANK:-${PMIX_RANK:-${OMPI_COMM_WORLD_RANK:-${SLURM_PROCID:-0}}}}
TRIREME_NODE_ID="node$rank" exec "$@"
