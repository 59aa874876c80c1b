// Command api makes the reference of the gRPC interfaces of their .proto files:
//
//	go run ./tools/api -protos proto/v1 -o docs/reference/api.md
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("api", flag.ContinueOnError)
	protos := flags.String("protos", "proto/v1", "`folder` of the .proto files")
	out := flags.String("o", "docs/reference/api.md", "write the page to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := page(*protos)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, []byte(text), 0o644) //nolint:gosec // source
}
