"""``reducio-codec`` with FSDP on CPUs, for tests: accelerate offers that on accelerators only, torch everywhere."""

import sys

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from reducio_codec.cli import main

PartialState(cpu=True)
PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU  # any kind that may be sharded
main(sys.argv[1:])
