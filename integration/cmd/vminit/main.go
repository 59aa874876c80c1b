// Command vminit is PID 1 of the virtual machine that package
// onlink/integration/vm boots; nothing else starts it.
package main

import (
	"fmt"
	"os"

	"onlink/integration/vm/guest"
)

func main() {
	if err := guest.Main(); err != nil {
		fmt.Fprintln(os.Stderr, "vminit:", err)
		os.Exit(1)
	}
}
