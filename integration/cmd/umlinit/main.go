// Command umlinit is both ends of a user-mode Linux boot: PID 1 of the guest,
// and, called with "supervise", PID 1 of the host namespaces around the
// kernel. Only package onlink/integration/uml starts it.
package main

import (
	"fmt"
	"os"

	"onlink/integration/uml"
	"onlink/integration/uml/guest"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == uml.SuperviseArg {
		code, err := uml.Supervise(os.Args[2:])
		if err != nil {
			fmt.Fprintln(os.Stderr, "umlinit:", err)
		}
		os.Exit(code)
	}
	if err := guest.Main(); err != nil {
		fmt.Fprintln(os.Stderr, "umlinit:", err)
		os.Exit(1)
	}
}
