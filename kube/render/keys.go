package render

import (
	"errors"
	"regexp"

	"onlink/kube/api/v1alpha1"
)

// keyFile is a TCP MD5 key and the name of its file; the zero value: none.
type keyFile struct {
	name    string
	content []byte
}

// path returns the file's path at the agent.
func (k keyFile) path() string {
	if k.name == "" {
		return ""
	}
	return KeyFolder + "/" + k.name
}

// keep makes the key part of the output.
func (l *ledger) keep(k keyFile) {
	if k.name != "" {
		l.out.Keys[k.name] = k.content
	}
}

// keyName matches the names of key files that the agent takes.
var keyName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// maxMD5Key is TCP_MD5SIG_MAXKEYLEN (tcp(7)).
const maxMD5Key = 80

// readKey reads the key that a field refers to.
func readKey(in *Input, c *checks, field string, ref *v1alpha1.SecretKey) keyFile {
	if ref == nil {
		return keyFile{}
	}
	key := *ref
	if key.Key == "" {
		key.Key = "password"
	}
	// The name of a Secret has no underscore: no two references have one name.
	k := keyFile{name: key.Name + "_" + key.Key}
	if key.Name == "" || !keyName.MatchString(k.name) {
		c.failf(field, "%q is no name of a Secret and its key; write {name: bgp, key: password}", key.Name+"/"+key.Key)
		return keyFile{}
	}
	err := errors.New("no Secrets are read here")
	if in.Password != nil {
		k.content, err = in.Password(key)
	}
	switch {
	case err != nil:
		c.failf(field, "the key %s of Secret %s: %v; create it in the namespace of onlink", key.Key, key.Name, err)
	case len(k.content) == 0:
		c.failf(field, "the key %s of Secret %s is empty; write the password into it", key.Key, key.Name)
	case len(k.content) > maxMD5Key:
		c.failf(field, "the key %s of Secret %s has %d bytes, and a TCP MD5 key at most %d; use a shorter one", key.Key, key.Name, len(k.content), maxMD5Key)
	default:
		return k
	}
	return keyFile{}
}
