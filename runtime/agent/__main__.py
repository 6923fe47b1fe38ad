"""`python3 -I edgepack-agent.pyz …`: the orders of runtime/agent/README.md."""

import sys

from edgepack_agent.orders import main

if __name__ == "__main__":
    sys.exit(main())
