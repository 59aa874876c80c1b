package shim

import (
	"io"
	"strconv"
	"unicode/utf8"
)

// MaxConfig bounds stdin, in bytes. A GC call names every attachment of the node
// in about 100 bytes each, so this is some 5,000 pods; the other calls are far
// smaller. The agent accepts messages of this size and the environment.
const MaxConfig = 512 << 10

// maxDelConfig bounds stdin of DEL, in bytes: a pod's annotations, which may be
// 256 KiB, grow six times when every character of them is escaped. The shim sends
// none of it to the agent.
const maxDelConfig = 16 << 20

const supportedVersions = `["0.3.1","0.4.0","1.0.0","1.1.0"]`

// usage is the text for a user who starts the program by hand.
const usage = "onlink-cni is a CNI plugin; a container runtime starts it with CNI_COMMAND set. CNI versions: 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"

// methods maps CNI_COMMAND to the agent's gRPC method.
var methods = [...]struct{ verb, path string }{
	{"ADD", "/onlink.v1.CNI/Add"},
	{"DEL", "/onlink.v1.CNI/Del"},
	{"CHECK", "/onlink.v1.CNI/Check"},
	{"GC", "/onlink.v1.CNI/Gc"},
	{"STATUS", "/onlink.v1.CNI/Status"},
}

// Version is set by the linker, as that of package internal/version, which would bring
// package os with it. The agent tells the operator when its own is another.
var Version string

// Process holds the plugin's environment, input and output.
type Process struct {
	Getenv func(key string) string // empty when unset
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Memory *Memory // nil: allocated
}

// Run serves the verb in CNI_COMMAND and returns the exit code: 0, or 1 after
// printing a CNI error object (CNI 1.1.0, section 5 "Error").
func Run(p Process) int {
	verb := p.Getenv("CNI_COMMAND")
	if verb == "" {
		_, _ = io.WriteString(p.Stderr, usage)
		return p.fail(newestVersion, &failure{codeEnvironment, "missing environment variable", "CNI_COMMAND is not set"})
	}
	method := methodOf(verb)
	if method == "" && verb != "VERSION" {
		return p.fail(newestVersion, &failure{codeEnvironment, "unknown CNI_COMMAND", verb + "; known are ADD, DEL, CHECK, GC, STATUS and VERSION"})
	}
	if p.Memory == nil {
		p.Memory = new(Memory)
	}
	ends, limit := verb == "DEL", MaxConfig
	if ends {
		limit = maxDelConfig
	}
	stdin, fail := readConfig(p.Stdin, p.Memory, limit)
	if verb == "VERSION" {
		return p.version(stdin)
	}
	if fail != nil {
		return p.fail(newestVersion, fail)
	}
	conf, fail := scanConf(stdin, ends)
	if fail != nil {
		return p.fail(conf.version(), fail)
	}
	if ends {
		stdin = conf.least()
	}
	out, code, fail := p.call(verb, method, conf, stdin)
	if fail != nil {
		return p.fail(conf.version(), fail)
	}
	if _, err := p.Stdout.Write(out); err != nil {
		return 1
	}
	return code
}

// fail prints f as a CNI error object and returns the exit code.
func (p Process) fail(version string, f *failure) int {
	_, _ = p.Stdout.Write(f.encode(version))
	return 1
}

func methodOf(verb string) string {
	for _, m := range methods {
		if m.verb == verb {
			return m.path
		}
	}
	return ""
}

// readConfig reads stdin to its end, up to limit bytes.
func readConfig(r io.Reader, m *Memory, limit int) ([]byte, *failure) {
	buf := m.takeAll()
	defer func() { m.taken = min(len(buf), scratchSize) }()
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > limit {
			return nil, &failure{codeConfig, "network configuration too large", "stdin holds more than " + strconv.Itoa(limit) + " bytes"}
		}
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return nil, &failure{codeIO, "cannot read stdin", err.Error()}
		}
	}
}

// version answers VERSION in the version of the caller's stdin; the agent need
// not run (CNI 1.1.0, "VERSION").
func (p Process) version(stdin []byte) int {
	conf, _ := scanConf(stdin, false)
	out := append([]byte(nil), `{"cniVersion":`...)
	out = appendJSON(out, conf.version())
	out = append(out, `,"supportedVersions":`+supportedVersions+"}\n"...)
	if _, err := p.Stdout.Write(out); err != nil {
		return 1
	}
	return 0
}

// call sends one request to the agent and returns the text to print and the
// agent's exit code.
func (p Process) call(verb, method string, conf conf, stdin []byte) ([]byte, int, *failure) {
	req := request{
		containerID: p.Getenv("CNI_CONTAINERID"),
		netns:       p.Getenv("CNI_NETNS"),
		ifname:      p.Getenv("CNI_IFNAME"),
		args:        p.Getenv("CNI_ARGS"),
		path:        p.Getenv("CNI_PATH"),
		config:      stdin,
		version:     Version,
	}
	if verb == "DEL" {
		req.netns, req.path = "", ""
		if !utf8.ValidString(req.args) { // gRPC accepts no such string; the arguments only name the pod in the log
			req.args = ""
		}
	}
	body, err := ask(p.Memory, conf, method, req)
	if err != nil {
		return nil, 1, unreachable(verb, conf.socket, err)
	}
	out, code, err := parseReply(body)
	if err != nil {
		return nil, 1, &failure{codeInternal, "cannot read the agent's answer", err.Error()}
	}
	return out, code, nil
}

// ask makes one gRPC call and returns the answer's message.
func ask(m *Memory, conf conf, method string, req request) ([]byte, error) {
	h := newH2(m)
	if err := h.s.open(conf.timeout); err != nil {
		return nil, err
	}
	defer h.s.close()
	h.ask(method, req)
	if err := h.s.connect(conf.socket); err != nil {
		return nil, err
	}
	return h.answer()
}

// unreachable returns the answer when the agent gave none. STATUS reports whether
// the plugin can serve, so it has a code of its own; other verbs may be tried
// again.
func unreachable(verb, socket string, err error) *failure {
	f := &failure{codeRetryLater, "agent does not answer", err.Error() + " (socket " + socket + "; is onlinkd running?)"}
	if s, ok := err.(statusError); ok { //nolint:errorlint // this package wraps no errors
		f = &failure{s.cniCode(), "agent refused the call", s.Error()}
	}
	if verb == "STATUS" && f.code == codeRetryLater {
		f.code = codeNotAvailable
	}
	return f
}
