package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"onlink/internal/tlsfiles"
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
	server  string         // host:port of an agent elsewhere; "": the one behind socket
	nodes   string         // the nodes whose agents are asked; "": the one agent alone
	tls     tlsfiles.Files // for server and nodes
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
	return a.validateServer()
}

// The flags of an agent on another machine, and the variables that stand for them.
const (
	serverFlag, serverEnv = "server", "ONLINK_SERVER"
	caFlag, caEnv         = "tls-ca", "ONLINK_TLS_CA"
	certFlag, certEnv     = "tls-cert", "ONLINK_TLS_CERT"
	keyFlag, keyEnv       = "tls-key", "ONLINK_TLS_KEY"
)

// environment fills in the flags that were not given from the environment. A socket
// that was given is of this machine.
func (a *app) environment(given func(flag string) bool) error {
	switch {
	case given("socket") && given(serverFlag):
		return errors.New("--socket and --server name two agents; use one of them")
	case given("socket") && a.nodes == "":
		if given(caFlag) || given(certFlag) || given(keyFlag) {
			return errors.New("--tls-ca, --tls-cert and --tls-key are for --server; a socket needs none")
		}
		return nil
	}
	for _, v := range []struct {
		flag, env string
		to        *string
	}{{serverFlag, serverEnv, &a.server}, {caFlag, caEnv, &a.tls.CA}, {certFlag, certEnv, &a.tls.Cert}, {keyFlag, keyEnv, &a.tls.Key}} {
		if !given(v.flag) && (v.flag != serverFlag || !given("socket")) {
			*v.to = os.Getenv(v.env)
		}
	}
	if a.server == "" && a.nodes == "" && (given(caFlag) || given(certFlag) || given(keyFlag)) {
		return errors.New("--tls-ca, --tls-cert and --tls-key are for --server, which is missing")
	}
	return nil
}

// validateServer checks the flags of an agent on another machine.
func (a *app) validateServer() error {
	if a.server == "" && a.nodes == "" {
		return nil
	}
	if host, port, err := net.SplitHostPort(a.server); a.server != "" && (err != nil || host == "" || port == "") {
		return fmt.Errorf("--server %q is not host:port; use one such as r1n1:9180 (api.admin.tcp of the agent)", a.server)
	}
	for _, f := range []struct{ flag, env, file string }{{caFlag, caEnv, a.tls.CA}, {certFlag, certEnv, a.tls.Cert}, {keyFlag, keyEnv, a.tls.Key}} {
		if f.file == "" {
			flag := serverFlag
			if a.server == "" {
				flag = nodesFlag
			}
			return fmt.Errorf("--"+flag+" needs --%s (or %s): the agent admits certificates alone; onlinkctl pki issue makes them", f.flag, f.env)
		}
	}
	return nil
}
