package docs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// shellFile is read by the shell of a machine when it starts.
const shellFile = "/srv/.shell"

// Shell runs a shell of this terminal on a host of the bed, with the function enter to go
// to the others.
func (h *Hosts) Shell(ctx context.Context, name string) error {
	var cases strings.Builder
	for _, other := range slices.Sorted(maps.Keys(h.machines)) {
		fmt.Fprintf(&cases, "\t%s) %s bash --rcfile %s -i ;;\n", other, strings.Join(h.machines[other].inside(), " "), shellFile)
	}
	for name, m := range h.machines {
		text := fmt.Sprintf("PS1='%s# '\nenter() {\n\tcase $1 in\n%s\t*) echo 'enter %s' >&2 ;;\n\tesac\n}\n", name, cases.String(), strings.Join(slices.Sorted(maps.Keys(h.machines)), "|"))
		if err := os.WriteFile(m.path(shellFile), []byte(text), 0o644); err != nil {
			return fmt.Errorf("prepare shell of %s: %w", name, err)
		}
	}
	m, err := h.Machine(name)
	if err != nil {
		return err
	}
	argv := m.inside("bash", "--rcfile", shellFile, "-i")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = m.env()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		if _, ended := errors.AsType[*exec.ExitError](err); !ended { // the last command's failure is the shell's exit code
			return fmt.Errorf("run shell on %s: %w", name, err)
		}
	}
	return nil
}
