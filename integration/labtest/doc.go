// Package labtest holds the helpers that whole-system tests share: topologies
// and their start, reloads of running agents, sessions, routes, status and
// metrics, pods, CNI plugins called as a runtime calls them.
//
// The line to onlink/integration/lab: lab builds the data centre and reads its
// state. It contains no test, returns every error, and serves the demo and the
// benchmarks too. labtest wraps lab for tests: its helpers fail the test, wait
// as long as onlink promises ([Back]), show the logs of a failed test, and clean
// up at its end. Helpers for the tests of one subject stay beside them: the
// attackers of the hostile tests, the site of the registry tests.
//
// A helper that takes a *testing.T fails the test. A helper that returns an
// error is a condition for [onlink/integration/lab.Eventually]: nil when it
// holds, else the difference.
//
// A package with lab tests calls [Main] from its TestMain, and has the line
// "//go:debug multipathtcp=0": an MPTCP listener has no TCP MD5 key.
// CONTRIBUTING.md has a first test, line by line.
package labtest
