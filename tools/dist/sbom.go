package main

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // SPDX 2.3, clause 8.4, wants it beside others
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// notKnown is SPDX's word for what a document does not state.
const notKnown = "NOASSERTION"

// product is the element of the whole package.
const product = common.ElementID("onlink")

// bill returns the list of parts of the programs as SPDX 2.3 in JSON: the package, its
// programs, and for each the modules that it was linked with, which the program itself
// names.
func bill(o *options, programs []*program, modules []*module) ([]byte, error) {
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: fmt.Sprintf("onlink-%s-%s", packageVersion(o.version), programs[0].setting("GOARCH")),
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Organization", Creator: "The onlink authors"}, {CreatorType: "Tool", Creator: "onlink/tools/dist"}},
			Created:  o.time().Format(time.RFC3339),
		},
	}
	doc.Packages = append(doc.Packages, rootPackage(o), standardLibrary(programs[0].info.GoVersion))
	relate(doc, "DOCUMENT", product, common.TypeRelationshipDescribe)
	all := sha256.New()
	for _, p := range programs {
		f := programFile(p)
		doc.Files = append(doc.Files, f)
		all.Write(p.text)
		relate(doc, product, f.FileSPDXIdentifier, common.TypeRelationshipContains)
		relate(doc, f.FileSPDXIdentifier, "go-stdlib", common.TypeRelationshipStaticLink)
		for _, d := range p.info.Deps {
			relate(doc, f.FileSPDXIdentifier, moduleID(d.Path), common.TypeRelationshipStaticLink)
		}
	}
	for _, m := range modules {
		doc.Packages = append(doc.Packages, m.spdx())
	}
	// A namespace is of one document alone (SPDX 2.3, clause 6.5).
	doc.DocumentNamespace = fmt.Sprintf("https://onlink.invalid/spdx/%s-%x", doc.DocumentName, all.Sum(nil))
	var out bytes.Buffer
	err := spdxjson.Write(doc, &out, spdxjson.Indent("  "), spdxjson.EscapeHTML(false))
	return out.Bytes(), err
}

func relate(doc *spdx.Document, a, b common.ElementID, how string) {
	doc.Relationships = append(doc.Relationships, &spdx.Relationship{
		RefA: common.DocElementID{ElementRefID: a}, RefB: common.DocElementID{ElementRefID: b}, Relationship: how,
	})
}

func newPackage(id common.ElementID, name, version, license, purl string) *spdx.Package {
	return &spdx.Package{
		PackageName: name, PackageSPDXIdentifier: id, PackageVersion: version,
		PackageDownloadLocation: notKnown, PackageLicenseConcluded: notKnown, PackageLicenseDeclared: license, PackageCopyrightText: notKnown,
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl,
		}},
	}
}

// rootPackage has the name that the statements of deploy/security have.
func rootPackage(o *options) *spdx.Package {
	p := newPackage(product, "onlink", o.version, "Apache-2.0", "pkg:golang/onlink@"+o.version)
	p.PackageSupplier = &common.Supplier{SupplierType: "Organization", Supplier: "The onlink authors"}
	p.PackageSummary, p.PrimaryPackagePurpose = summary, "APPLICATION"
	return p
}

func standardLibrary(version string) *spdx.Package {
	version = strings.TrimPrefix(version, "go")
	p := newPackage("go-stdlib", "stdlib", version, "BSD-3-Clause", "pkg:golang/stdlib@"+version)
	p.PrimaryPackagePurpose = "LIBRARY"
	return p
}

func programFile(p *program) *spdx.File {
	dir := binDir
	if p.name == pluginName {
		dir = cniDir
	}
	return &spdx.File{
		FileName: "." + dir + "/" + p.name, FileSPDXIdentifier: common.ElementID("program-" + p.name), FileTypes: []string{"BINARY"},
		Checksums: []common.Checksum{
			{Algorithm: common.SHA1, Value: fmt.Sprintf("%x", sha1.Sum(p.text))}, //nolint:gosec // as above
			{Algorithm: common.SHA256, Value: fmt.Sprintf("%x", sha256.Sum256(p.text))},
		},
		LicenseConcluded: notKnown, FileCopyrightText: notKnown,
	}
}

// notInID is what an identifier may not have (SPDX 2.3, clause 7.2).
var notInID = regexp.MustCompile(`[^a-zA-Z0-9.-]`)

func moduleID(path string) common.ElementID {
	return common.ElementID("module-" + notInID.ReplaceAllString(path, "-"))
}

func (m *module) spdx() *spdx.Package {
	declared := m.license
	if declared == "" {
		declared = notKnown
	}
	p := newPackage(moduleID(m.path), m.path, m.version, declared, "pkg:golang/"+m.path+"@"+m.version)
	p.PrimaryPackagePurpose = "LIBRARY"
	if m.sum != "" {
		p.PackageComment = "go.sum: " + m.sum
	}
	if m.patched {
		p.PackageSourceInfo = "with the patches of bgp/engine; gobgp.openvex.json states which advisories do not concern it"
	}
	return p
}
