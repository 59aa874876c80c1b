package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// git runs git in a folder, without the settings of the user, the machine or
// a surrounding repository: they would change what it writes.
type git struct {
	dir string
	env []string // more variables
}

// run returns what git writes, without the line break at its end.
func (g git) run(ctx context.Context, args ...string) (string, error) {
	out, err := g.input(ctx, "", args...)
	return strings.TrimSuffix(out, "\n"), err
}

// input is run with a standard input; it returns all that git writes.
func (g git) input(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = g.dir
	cmd.Env = append(gitEnv(), g.env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(append(stdout.Bytes(), stderr.Bytes()...)))
	}
	return stdout.String(), nil
}

// gitEnv keeps git from a repository that a hook's environment names, and from
// anybody's settings. Names and dates are fixed: equal series make equal commits.
func gitEnv() []string {
	const who, mail, when = "onlink engine", "engine@onlink.invalid", "2024-01-01T00:00:00Z"
	env := []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C", "GIT_EDITOR=:", "GIT_SEQUENCE_EDITOR=:",
		"GIT_AUTHOR_NAME=" + who, "GIT_AUTHOR_EMAIL=" + mail, "GIT_AUTHOR_DATE=" + when,
		"GIT_COMMITTER_NAME=" + who, "GIT_COMMITTER_EMAIL=" + mail, "GIT_COMMITTER_DATE=" + when,
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GIT_") && !strings.HasPrefix(v, "LC_ALL=") {
			env = append(env, v)
		}
	}
	return env
}
