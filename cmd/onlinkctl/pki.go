package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"onlink/internal/identity"
	"onlink/internal/pki"
)

// The files of an authority in its folder.
const (
	authorityCert = "ca.crt"
	authorityKey  = "ca.key"
)

// Validities when no other is asked for.
const (
	authorityDays   = 3650
	certificateDays = 365
	maxDays         = 36500
	day             = 24 * time.Hour
)

func pkiCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pki",
		Short: "Make the certificates of nodes and operators",
		Long: `pki makes a small certificate authority and certificates of it. It works on files of
this machine, and no agent need run. The role of a certificate is its SAN URI
onlink://ROLE/NAME: a viewer reads, an operator changes, a node claims and releases
blocks for its own name. Who has ca.key can make any of them: keep it off the nodes.`,
		Example: `  onlinkctl pki init --dir /root/onlink-pki
  onlinkctl pki issue --dir /root/onlink-pki --role node --name r1n1 --ip 10.57.1.11
  onlinkctl pki issue --dir /root/onlink-pki --role operator --name alice --days 90`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(pkiInitCommand(a), pkiIssueCommand(a), pkiShowCommand(a))
	return cmd
}

// making holds the flags that init and issue share.
type making struct {
	dir, algorithm string
	days           int
}

func (m *making) flags(cmd *cobra.Command, days int) {
	f := cmd.Flags()
	f.StringVar(&m.dir, "dir", ".", "folder of the authority: "+authorityCert+" and "+authorityKey)
	f.IntVar(&m.days, "days", days, "validity")
	f.StringVar(&m.algorithm, "algorithm", string(pki.P256), fmt.Sprintf("kind of the private key: %s or %s", pki.P256, pki.Ed25519))
}

// until returns the end of the validity.
func (m *making) until(now time.Time) (time.Time, error) {
	if m.days < 1 || m.days > maxDays {
		return time.Time{}, fmt.Errorf("--days %d: use 1 to %d", m.days, maxDays)
	}
	return now.Add(time.Duration(m.days) * day), nil
}

func (m *making) file(name string) string { return filepath.Join(m.dir, name) }

func pkiInitCommand(a *app) *cobra.Command {
	var m making
	var name string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a certificate authority",
		Long: `init makes an authority: ca.crt, which every agent and operator has, and ca.key, which
signs certificates. It replaces no file.`,
		Example: `  onlinkctl pki init --dir /root/onlink-pki
  onlinkctl pki init --dir /root/onlink-pki --name "rack 7" --days 1825 --algorithm ed25519`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := a.now()
			until, err := m.until(now)
			if err != nil {
				return err
			}
			ca, err := pki.NewAuthority(name, now, until, pki.Algorithm(m.algorithm))
			if err != nil {
				return err
			}
			if err := os.MkdirAll(m.dir, 0o700); err != nil {
				return err
			}
			if err := ca.Write(m.file(authorityCert), m.file(authorityKey)); err != nil {
				return err
			}
			return made(cmd.OutOrStdout(), ca.Pair, m.file(authorityCert), m.file(authorityKey))
		},
	}
	m.flags(cmd, authorityDays)
	cmd.Flags().StringVar(&name, "name", "onlink CA", "name of the authority")
	return cmd
}

// issuing holds the flags of issue.
type issuing struct {
	making

	roles, names, dns, ips []string
	caCert, caKey, out     string
}

func pkiIssueCommand(a *app) *cobra.Command {
	var m issuing
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "Make a certificate of the authority",
		Long: `issue makes a private key and a certificate for it, as NAME.crt and NAME.key. It
replaces no file: move the former pair away, or write to another folder with --out, and
put both files in the place of the former ones; an agent reads them without a restart.

Servers need the names and addresses that clients reach them by (--dns, --ip); the name
of a node is one of them. With several --role or --name the certificate has each role
with each name: a renamed node takes over its blocks with both names, and each of two
nodes that split the registry releases the other's half with the roles node and
operator. An authority that OpenSSL made serves too (--ca-cert, --ca-key).`,
		Example: `  onlinkctl pki issue --role node --name r1n1 --ip 10.57.1.11
  onlinkctl pki issue --role operator --name alice --days 90 --out /home/alice
  onlinkctl pki issue --role viewer --name dashboard --algorithm ed25519
  onlinkctl pki issue --role node --name worker1.example.com --name worker1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return m.run(cmd, a.now()) },
	}
	m.flags(cmd, certificateDays)
	f := cmd.Flags()
	f.StringArrayVar(&m.roles, "role", nil, "role of the holder: "+identity.Either(identity.Roles()))
	f.StringArrayVar(&m.names, "name", nil, "name of the holder; of a node: its node.name")
	f.StringSliceVar(&m.dns, "dns", nil, "DNS names that clients reach the holder by")
	f.StringSliceVar(&m.ips, "ip", nil, "addresses that clients reach the holder by")
	f.StringVar(&m.caCert, "ca-cert", "", "certificate of the authority; default: "+authorityCert+" in --dir")
	f.StringVar(&m.caKey, "ca-key", "", "private key of the authority; default: "+authorityKey+" in --dir")
	f.StringVar(&m.out, "out", "", "folder to write to; default: --dir")
	words := make([]string, 0, len(identity.Roles()))
	for _, r := range identity.Roles() {
		words = append(words, string(r))
	}
	// The only error is a flag that is not there.
	if err := cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
	return cmd
}

func (m *issuing) run(cmd *cobra.Command, now time.Time) error {
	r := pki.Request{DNS: m.dns, From: now, Algorithm: pki.Algorithm(m.algorithm)}
	var err error
	if r.Until, err = m.until(now); err != nil {
		return err
	}
	if r.Identities, err = m.identities(); err != nil {
		return err
	}
	for _, text := range m.ips {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("--ip: %q is not an address", text)
		}
		r.IPs = append(r.IPs, ip)
	}
	ca, err := pki.ReadAuthority(orFile(m.caCert, m.file(authorityCert)), orFile(m.caKey, m.file(authorityKey)))
	if err != nil {
		return fmt.Errorf("read the authority: %w", err)
	}
	p, err := ca.Issue(r)
	if err != nil {
		return err
	}
	base := filepath.Join(orFile(m.out, m.dir), r.Identities[0].Name)
	if err := p.Write(base+".crt", base+".key"); err != nil {
		return err
	}
	return made(cmd.OutOrStdout(), p, base+".crt", base+".key")
}

// identities returns each role with each name.
func (m *issuing) identities() ([]identity.Identity, error) {
	if len(m.roles) == 0 || len(m.names) == 0 {
		return nil, fmt.Errorf("--role and --name are missing; use such as --role %s --name r1n1", identity.Node)
	}
	var out []identity.Identity
	for _, text := range m.roles {
		role, err := identity.ParseRole(text)
		if err != nil {
			return nil, fmt.Errorf("--role: %w", err)
		}
		for _, name := range m.names {
			id, err := identity.New(role, name)
			if err != nil {
				return nil, fmt.Errorf("--name: %w", err)
			}
			if strings.HasPrefix(name, ".") {
				return nil, fmt.Errorf("--name: %q begins with a dot, and is to be a file's name; use another", name)
			}
			out = append(out, id)
		}
	}
	return out, nil
}

func orFile(given, otherwise string) string {
	if given != "" {
		return given
	}
	return otherwise
}

// made reports a new pair.
func made(w io.Writer, p pki.Pair, cert, key string) error {
	_, err := fmt.Fprintf(w, "%s: %s, valid until %s\n%s: its private key, keep it secret\n", cert, holderOf(p.Cert), p.Cert.NotAfter.UTC().Format(time.DateOnly), key)
	return err
}

// shown is a certificate as show prints it.
type shown struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Identities  []string  `json:"identities"`
	Problem     string    `json:"problem,omitempty"`
	Authority   bool      `json:"authority"`
	DNS         []string  `json:"dns"`
	IPs         []string  `json:"ips"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Days        int       `json:"days_left"`
	Fingerprint string    `json:"fingerprint"`
}

func pkiShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: "Show the certificates of a file",
		Long: `show prints the certificates of a PEM file: their roles, names, validity, and the
subject and fingerprint by which tls.roles of onlinkd.yaml can name them.`,
		Example: `  onlinkctl pki show /etc/onlink/r1n1.crt
  onlinkctl pki show ca.crt -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			certs, err := pki.ReadCertificates(args[0])
			if err != nil {
				return err
			}
			list := make([]shown, 0, len(certs))
			for _, c := range certs {
				list = append(list, a.shown(c))
			}
			return a.writeShown(cmd.OutOrStdout(), list)
		},
	}
}

func (a *app) writeShown(w io.Writer, list []shown) error {
	if a.output != "table" {
		return a.encode(w, list)
	}
	for i := range list {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := list[i].write(w); err != nil {
			return err
		}
	}
	return nil
}
