package bgp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"onlink/bgp/policy"
)

// corpusEnv makes the test binary play files of a corpus against a speaker of
// its own: the third number of the addresses, and the files, with spaces between.
const corpusEnv = "ONLINK_BGP_TEST_CORPUS"

// TestCorpus plays every message that ever harmed the engine against processes
// of their own. No patched one ends or hangs; unpatched ones, one for each file,
// must in many cases, or the corpus proves nothing.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/fuzz/Fuzz*/*")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files in the corpora: %v", len(files), err)
	}
	size := 1
	if Patched() {
		size = 10 // they are to survive all
	}
	var died atomic.Int32
	gate := make(chan struct{}, 8)
	t.Run("files", func(t *testing.T) {
		for list := range slices.Chunk(files, size) {
			t.Run(strings.TrimPrefix(list[0], "testdata/fuzz/"), func(t *testing.T) {
				t.Parallel()
				gate <- struct{}{}
				defer func() { <-gate }()
				end := playFiles(t, list)
				if end == "" {
					return
				}
				died.Add(1)
				if Patched() {
					t.Errorf("the speaker did not survive: %s", end)
				} else {
					t.Log(end)
				}
			})
		}
	})
	t.Logf("%s: %d of %d files ended the process", Engine(), died.Load(), len(files))
	if !Patched() && died.Load() < 20 {
		t.Error("the engine without patches survives most of the corpora")
	}
}

// corpusRun numbers the processes.
var corpusRun atomic.Int32

// playFiles returns how the process that plays some files ended, "" for well.
func playFiles(t *testing.T, files []string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", corpusEnv, corpusRun.Add(1), strings.Join(files, " ")))
	var said bytes.Buffer
	cmd.Stderr = &said
	err = cmd.Run()
	if err == nil {
		return ""
	}
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for line := range strings.Lines(said.String()) {
		if strings.Contains(line, "panic:") || strings.HasPrefix(line, "corpus:") {
			return strings.TrimSpace(line)
		}
	}
	return err.Error() + ": " + said.String()
}

// runCorpus is the child of playFiles.
func runCorpus(spec string) {
	if err := playCorpus(spec); err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
}

func playCorpus(spec string) error {
	words := strings.Fields(spec)
	number, files := words[0], words[1:]
	self := addr("127.62." + number + ".1")
	s, err := New(Config{
		ASN: 64512, RouterID: self, NodeAddress: self, ListenAddresses: []netip.Addr{self}, ListenPort: testPort,
		Pools: []policy.Pool{{Prefix: prefix("10.244.0.0/16")}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		return err
	}
	clients := clientsOf("127.62.0.0/16")
	clients.Families = []Family{IPv4, IPv6}
	if err := s.SetPeers(ctx, nil, []Dynamic{clients}); err != nil {
		return err
	}
	for i, file := range files {
		script, err := scriptOf(file)
		if err != nil {
			return err
		}
		if err := send(ctx, s, self, addr(fmt.Sprintf("127.62.%s.%d", number, 2+i)), script); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// send plays a script and looks at the speaker, which must answer, until the
// session is over or a second has passed: not every engine closes it.
func send(ctx context.Context, s *Speaker, self, local netip.Addr, script []byte) error {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(self, testPort).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _ = conn.Write(script) // a reset is an answer
	over := make(chan struct{})
	go func() {
		defer close(over)
		drainConn(conn)
	}()
	enough := time.After(time.Second)
	for looking := true; looking; {
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			s.Peers()
			s.Paths(ctx, prefix("10.244.99.0/26"))
		}()
		select {
		case <-answered:
		case <-ctx.Done():
			return errors.New("the speaker stands still")
		}
		select {
		case <-enough:
			looking = false
		case <-over:
			looking = false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// scriptOf reads a file of a corpus, as it goes over the wire from the start.
func scriptOf(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, quoted, _ := strings.Cut(string(text), "[]byte(")
	quoted, _, _ = strings.Cut(quoted, ")\n")
	data, err := strconv.Unquote(quoted)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	in := []byte(data)
	if filepath.Base(filepath.Dir(file)) == "FuzzSession" {
		return bytesOf("127.62.0.7", in), nil
	}
	return updateScript(in), nil
}

// updateScript is a session of the kind that the first byte chooses, and an
// UPDATE.
func updateScript(in []byte) []byte {
	caps := []byte{1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1}
	if in[0]&1 == 0 {
		caps = append(caps, 65, 4, 0, 0, 0xfc, 0)
	}
	open := append([]byte{4, 0xfc, 0, 0, 90, 127, 62, 0, 7, byte(len(caps) + 2), 2, byte(len(caps))}, caps...)
	out := wireMessage(1, open)
	out = append(out, wireMessage(4, nil)...)
	return append(out, wireMessage(2, in[1:])...)
}
