package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The defaults of the global flags.
const (
	defaultSocket  = "/run/onlink/admin.sock"
	defaultTimeout = 5 * time.Second
	defaultWatch   = "2s"
)

// app holds the global flags.
type app struct {
	socket  string
	timeout time.Duration
	output  string
	watch   time.Duration    // 0: show once
	now     func() time.Time // for ages
}

// formats are the values of --output.
var formats = []string{"table", "json", "yaml"}

// validate checks the global flags before any command runs.
func (a *app) validate() error {
	if !slices.Contains(formats, a.output) {
		return fmt.Errorf("unknown --output %q; use %s", a.output, strings.Join(formats, ", "))
	}
	if a.timeout <= 0 {
		return fmt.Errorf("--timeout %s: use more than 0, such as 5s", a.timeout)
	}
	if a.watch < 0 {
		return fmt.Errorf("--watch %s: use more than 0, such as 2s", a.watch)
	}
	return nil
}
