package bed

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"sync"
)

// converter turns the framed output of the guest into events, one package
// after the other, by way of `go tool test2json`. All calls of book happen one
// at a time.
type converter struct {
	ctx  context.Context //nolint:containedctx // the converter lives as long as the one call it serves
	book func(Event)

	mu  sync.Mutex // serialises book: events arrive on test2json's goroutine
	pkg string     // package whose output is being read; empty between frames

	tool  *exec.Cmd
	input io.WriteCloser
	done  chan error
}

func (c *converter) frames() io.Writer {
	return &frameReader{start: c.start, text: c.text, end: c.end}
}

func (c *converter) start(pkg string) error {
	if err := c.close(); err != nil {
		return err
	}
	c.tool = exec.CommandContext(c.ctx, "go", "tool", "test2json", "-t", "-p", pkg)
	input, err := c.tool.StdinPipe()
	if err != nil {
		return fmt.Errorf("test2json: %w", err)
	}
	output, err := c.tool.StdoutPipe()
	if err != nil {
		return fmt.Errorf("test2json: %w", err)
	}
	if err := c.tool.Start(); err != nil {
		return fmt.Errorf("test2json: %w", err)
	}
	c.pkg, c.input, c.done = pkg, input, make(chan error, 1)
	go func() { c.done <- ReadEvents(output, c.locked) }()
	return nil
}

func (c *converter) locked(ev Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.book(ev)
}

// text passes a line on; what comes between frames is the driver's own and
// belongs to no package.
func (c *converter) text(line []byte) error {
	if c.pkg == "" {
		c.locked(Event{Action: "output", Output: string(line)})
		return nil
	}
	if _, err := c.input.Write(line); err != nil {
		return fmt.Errorf("test2json: %w", err)
	}
	return nil
}

// end closes the package. Its process's exit code overrules its text: a
// process may die after the last test passed.
func (c *converter) end(code int) error {
	pkg := c.pkg
	if err := c.close(); err != nil {
		return err
	}
	if code != 0 {
		c.locked(Event{Action: "output", Package: pkg, Output: fmt.Sprintf("exit code %d\n", code)})
		c.locked(Event{Action: "fail", Package: pkg})
	}
	return nil
}

// close ends the conversion of the current package, if any.
func (c *converter) close() error {
	if c.pkg == "" {
		return nil
	}
	c.pkg = ""
	closeErr := c.input.Close()
	readErr := <-c.done
	waitErr := c.tool.Wait()
	for _, err := range []error{closeErr, readErr, waitErr} {
		if err != nil {
			return fmt.Errorf("test2json: %w", err)
		}
	}
	return nil
}
