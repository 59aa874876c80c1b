package bfd

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a [Monitor] in a process of its own, the helper. The Go runtime gives
// its processors to goroutines in slices of 10 ms, and one that returns from a
// system call waits behind many: in a busy agent a thread of its own is late by
// more than 50 ms x 3. A process with nothing else in it, and with real-time
// scheduling, is not. When the agent is killed it still sends AdminDown, so that
// the neighbours do not take the end of the agent for that of the node.
//
// The process is started with the first session. It is started again when it
// ends by itself.
type Process struct {
	log     *slog.Logger
	command []string // its process calls Serve with stdin and stdout
	// changed has room for one signal: follow sends at each report, and it is
	// never closed; full means that the user has not received the last one yet.
	changed chan struct{}
	ended   chan struct{} // the helper's end, for Run; room for one, as above

	setting sync.Mutex // one Set at a time

	mu       sync.Mutex // guards all below
	want     []Session
	sessions []Status
	seq      uint64
	answers  map[uint64]chan report
	child    *child // nil: none runs
}

// child is one run of the helper.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *gob.Encoder
	// gone is closed when the helper has ended.
	gone chan struct{}
}

// NewProcess returns a monitor whose sessions run in a process started as command,
// which must call [Serve]. It starts nothing.
func NewProcess(log *slog.Logger, command ...string) *Process {
	return &Process{
		log: log, command: command, changed: make(chan struct{}, 1), ended: make(chan struct{}, 1), answers: map[uint64]chan report{},
	}
}

// Changed is [Monitor.Changed].
func (p *Process) Changed() <-chan struct{} { return p.changed }

// Sessions is [Monitor.Sessions]; counters are up to half a second old.
func (p *Process) Sessions() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions
}

// The helper's limits for an answer on a busy machine; one that has just been
// started is ended sooner, and started again freshTries times. Each has twice the time
// of the one before: at the boot of a slow machine, where many programs start at once,
// none would answer within the first limit, and the agent would end.
const (
	answerWait = 10 * time.Second
	freshWait  = 3 * time.Second
	freshTries = 4
	dumpWait   = time.Second // for the stacks of one that does not answer
)

// Set is [Monitor.Set]. The process starts in the network namespace of the
// calling thread.
func (p *Process) Set(sessions []Session) error {
	for _, s := range sessions {
		if err := s.withDefaults().validate(); err != nil {
			return err
		}
	}
	p.setting.Lock()
	defer p.setting.Unlock()
	var err error
	for try := range freshTries {
		var fresh bool
		wait := freshWait << try
		if fresh, err = p.ask(sessions, wait); !fresh || !errors.Is(err, errSilent) {
			return err
		}
		p.log.Warn("bfd process did not answer after its start, starting another", "wait", wait)
	}
	return err
}

// ask sends sessions to the helper and waits for its answer. If there is none it starts
// one, which has the time first for it; fresh reports whether it did. A helper that does
// not answer is ended; the stacks of its goroutines go to our standard error.
func (p *Process) ask(sessions []Session, first time.Duration) (fresh bool, err error) {
	p.mu.Lock()
	if p.child == nil && len(sessions) == 0 {
		p.want, p.sessions = nil, nil
		p.mu.Unlock()
		return false, nil
	}
	wait := answerWait
	if p.child == nil {
		if err := p.start(); err != nil {
			p.mu.Unlock()
			return true, err
		}
		fresh, wait = true, first
	}
	p.seq++
	answer := make(chan report, 1)
	p.answers[p.seq] = answer
	c, r := p.child, request{p.seq, sessions}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.answers, r.Seq)
		p.mu.Unlock()
	}()
	if err := c.enc.Encode(r); err != nil {
		return fresh, fmt.Errorf("send to the bfd process: %w", err)
	}
	select {
	case rep := <-answer:
		return fresh, p.settle(sessions, rep)
	case <-c.gone:
		return fresh, fmt.Errorf("send to the bfd process: %w", errEnded)
	case <-time.After(wait):
		return fresh, errors.Join(fmt.Errorf("send to the bfd process: %w within %s", errSilent, wait), c.giveUp())
	}
}

var (
	errEnded  = errors.New("the bfd process has ended")
	errSilent = errors.New("no answer")
)

// giveUp ends a helper that does not answer.
func (c *child) giveUp() error {
	err := c.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-c.gone:
	case <-time.After(dumpWait):
		err = c.cmd.Process.Kill()
		<-c.gone
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end the bfd process: %w", err)
	}
	return nil
}

// settle returns the error of an answer, or adopts the sessions of its request.
func (p *Process) settle(sessions []Session, rep report) error {
	switch {
	case rep.PortBusy:
		return fmt.Errorf("%w: %s", ErrPortBusy, rep.Err)
	case rep.Err != "":
		return errors.New(rep.Err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.want = sessions
	return nil
}

// start starts the helper. The caller holds mu.
func (p *Process) start() error {
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start the bfd process: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start the bfd process: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the bfd process: %w", err)
	}
	p.child = &child{cmd: cmd, in: in, enc: gob.NewEncoder(in), gone: make(chan struct{})}
	go p.follow(p.child, gob.NewDecoder(out))
	return nil
}

// follow receives the helper's reports until it ends.
func (p *Process) follow(c *child, out *gob.Decoder) {
	for {
		var rep report
		if err := out.Decode(&rep); err != nil {
			break
		}
		p.mu.Lock()
		p.sessions = rep.Sessions
		if answer := p.answers[rep.Seq]; answer != nil {
			answer <- rep
			delete(p.answers, rep.Seq)
		}
		p.mu.Unlock()
		signal(p.changed)
	}
	err := c.cmd.Wait()
	p.mu.Lock()
	p.child = nil
	p.mu.Unlock()
	close(c.gone)
	p.log.Debug("bfd process ended", "err", err)
	signal(p.ended)
}

// startAgain is the pause before the start of another helper; endWait bounds how
// long one may take to end.
const (
	startAgain = time.Second
	endWait    = 2 * time.Second
)

// Run starts the helper again when it ends by itself, until ctx ends; then it
// ends the helper, which sends AdminDown to the neighbours.
func (p *Process) Run(ctx context.Context) error {
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return p.end()
		case <-p.ended:
			p.log.Warn("bfd process ended, starting it again", "wait", startAgain)
			retry.Reset(startAgain)
		case <-retry.C:
			p.mu.Lock()
			want := p.want
			p.mu.Unlock()
			if err := p.Set(want); err != nil {
				p.log.Error("failed to start bfd process", "err", err)
				retry.Reset(startAgain)
			}
		}
	}
}

func (p *Process) end() error {
	p.mu.Lock()
	c := p.child
	p.mu.Unlock()
	if c == nil {
		return nil
	}
	err := c.in.Close()
	select {
	case <-c.gone:
	case <-time.After(endWait):
		err = errors.Join(err, c.cmd.Process.Kill())
		<-c.gone
	}
	if err != nil {
		return fmt.Errorf("end the bfd process: %w", err)
	}
	return nil
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
