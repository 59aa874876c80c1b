package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Fuzz finds every fuzz target of the module and runs each for length. It
// stops at the first target that finds something; the go command has then
// written the input to the package's testdata.
func Fuzz(ctx context.Context, out io.Writer, length time.Duration) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	targets, err := fuzzTargets(ctx, root)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return errors.New("fuzz: the module has no fuzz target")
	}
	say := newProgress(out)
	for _, t := range targets {
		say.printf("fuzzing %s for %v", t, length)
		cmd := goCommand(ctx, root, "test", "-run", "^$", "-fuzz", "^"+t.Name+"$", "-fuzztime", length.String(), t.Package)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("fuzz %s: %w", t, err)
		}
	}
	fmt.Fprintf(out, "%d fuzz targets found nothing\n", len(targets))
	return nil
}

func fuzzTargets(ctx context.Context, root string) ([]TestID, error) {
	cmd := goCommand(ctx, root, "test", "-json", "-run", "^$", "-list", "^Fuzz", "./...")
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("list fuzz targets: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("list fuzz targets: %w", err)
	}
	var targets []TestID
	var log strings.Builder
	readErr := ReadEvents(output, func(ev Event) {
		log.WriteString(ev.Output)
		if name := strings.TrimSpace(ev.Output); ev.Action == "output" && strings.HasPrefix(name, "Fuzz") {
			targets = append(targets, TestID{ev.Package, name})
		}
	})
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("list fuzz targets: %w\n%s", err, log.String())
	}
	return targets, nil
}
