package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is the path of this tree's module.
const module = "onlink"

// tree is the source of the module, package by package.
type tree struct {
	root     string
	fset     *token.FileSet
	packages []*pkg
	fewUses  int // see fewUses
}

// pkg is one package of the module.
type pkg struct {
	path  string  // below the module: agent/config
	files []*file // no tests
	tests []*file
	types *types.Package
	info  *types.Info
}

// file is one Go file.
type file struct {
	name      string // without its folder
	place     string // from the root
	lines     int
	ast       *ast.File
	generated bool
	built     bool // by this platform and these build tags; only then types are known
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Dir, Export   string
	GoFiles, IgnoredGoFiles   []string
	TestGoFiles, XTestGoFiles []string
	Module                    *struct{ Path string }
	Error                     *struct{ Err string }
}

// load reads and type-checks every package of the module at root.
func load(root string) (*tree, error) {
	all, err := list(root)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, fset: token.NewFileSet(), fewUses: fewUses}
	exports := map[string]string{}
	for _, l := range all {
		exports[l.ImportPath] = l.Export
	}
	imp := importer.ForCompiler(t.fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	})
	for _, l := range all {
		if l.Module == nil || l.Module.Path != module {
			continue
		}
		p, err := t.read(l)
		if err != nil {
			return nil, err
		}
		if err := p.check(t.fset, imp); err != nil {
			return nil, fmt.Errorf("check %s: %w", l.ImportPath, err)
		}
		t.packages = append(t.packages, p)
	}
	if len(t.packages) == 0 {
		return nil, fmt.Errorf("%s: no package of module %s", root, module)
	}
	return t, nil
}

// list asks the go command for the module's packages and what they import,
// with export data: made once, then in the build cache.
func list(root string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-deps", "-export",
		"-json=ImportPath,Dir,Export,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Module,Error", "./...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the programs are built
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var out []listed
	for dec := json.NewDecoder(bytes.NewReader(raw)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if l.Error != nil {
			return nil, fmt.Errorf("go list: %s: %s", l.ImportPath, l.Error.Err)
		}
		out = append(out, l)
	}
}

// read parses the files of a package.
func (t *tree) read(l listed) (*pkg, error) {
	p := &pkg{path: strings.TrimPrefix(strings.TrimPrefix(l.ImportPath, module), "/")}
	for _, names := range []struct {
		list  []string
		built bool
	}{{l.GoFiles, true}, {l.IgnoredGoFiles, false}, {l.TestGoFiles, false}, {l.XTestGoFiles, false}} {
		for _, name := range names.list {
			f, err := t.parse(filepath.Join(l.Dir, name))
			if err != nil {
				return nil, err
			}
			f.built = names.built
			if strings.HasSuffix(name, "_test.go") {
				p.tests = append(p.tests, f)
			} else {
				p.files = append(p.files, f)
			}
		}
	}
	return p, nil
}

func (t *tree) parse(path string) (*file, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	place, err := filepath.Rel(t.root, path)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.ParseFile(t.fset, place, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &file{
		name: filepath.Base(path), place: place, lines: bytes.Count(text, []byte("\n")),
		ast: parsed, generated: ast.IsGenerated(parsed),
	}, nil
}

// check resolves the names in the files that are built.
func (p *pkg) check(fset *token.FileSet, imp types.Importer) error {
	var files []*ast.File
	for _, f := range p.files {
		if f.built {
			files = append(files, f.ast)
		}
	}
	p.info = &types.Info{
		Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}, Types: map[ast.Expr]types.TypeAndValue{},
	}
	conf := types.Config{Importer: imp}
	var err error
	p.types, err = conf.Check(module+"/"+p.path, fset, files, p.info)
	return err
}

// source returns the files that are written by hand and whose names are
// resolved.
func (p *pkg) source() []*file {
	var out []*file
	for _, f := range p.files {
		if f.built && !f.generated {
			out = append(out, f)
		}
	}
	return out
}

// below reports whether the package is dir or lies below it.
func (p *pkg) below(dir string) bool { return p.path == dir || strings.HasPrefix(p.path, dir+"/") }
