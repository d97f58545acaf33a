package rego

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// harmless are the built-in functions that rules may call: those that compute
// from their arguments alone, with a cost that follows their size. It is a
// list of what is allowed, so that a new version of OPA cannot widen it.
//
// Left out, by reason: http.send, net.lookup_ip_addr, json.match_schema and
// json.verify_schema (network); time.now_ns, io.jwt.*, and the verifying
// crypto.x509.* (clock; rules take input.context.time); rand.intn and
// uuid.rfc4122 (chance); opa.runtime (environment); trace (hidden output);
// numbers.range*, net.cidr_expand, bits.lsh, graph.reachable_paths,
// strings.render_template, array.flatten and yaml.unmarshal (a short text that
// makes a large result).
var harmless = []string{
	// operators
	"and", "assign", "div", "eq", "equal", "gt", "gte", "internal.member_2", "internal.member_3",
	"lt", "lte", "minus", "mul", "neq", "or", "plus", "rem",
	// numbers
	"abs", "ceil", "floor", "format_int", "round", "to_number",
	// collections
	"array.concat", "array.reverse", "array.slice", "count", "graph.reachable", "intersection",
	"json.filter", "json.patch", "json.remove", "max", "min", "object.filter", "object.get", "object.keys",
	"object.remove", "object.subset", "object.union", "object.union_n", "product", "set_diff", "sort", "sum",
	"union", "walk",
	// strings
	"concat", "contains", "endswith", "indexof", "indexof_n", "internal.template_string", "lower", "replace",
	"split", "sprintf", "startswith", "strings.any_prefix_match", "strings.any_suffix_match", "strings.count",
	"strings.replace_n", "strings.reverse", "substring", "trim", "trim_left", "trim_prefix", "trim_right",
	"trim_space", "trim_suffix", "upper",
	// patterns and versions
	"glob.match", "glob.quote_meta", "regex.find_all_string_submatch_n", "regex.find_n", "regex.is_valid",
	"regex.match", "regex.replace", "regex.split", "semver.compare", "semver.is_valid",
	// encodings and digests
	"base64.decode", "base64.encode", "base64.is_valid", "base64url.decode", "base64url.encode",
	"base64url.encode_no_pad", "crypto.sha256", "crypto.x509.parse_certificates", "hex.decode", "hex.encode",
	"json.is_valid", "json.marshal", "json.unmarshal", "uri.is_valid", "uri.parse", "urlquery.decode", "urlquery.encode",
	// addresses, as numbers only
	"net.cidr_contains", "net.cidr_intersects", "net.cidr_is_valid",
	// points in time that rules are given; time zones other than UTC are the machine's
	"time.add_date", "time.clock", "time.date", "time.diff", "time.format", "time.parse_duration_ns",
	"time.parse_ns", "time.parse_rfc3339_ns", "time.weekday",
	// types
	"is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "type_name",
	// tools for authors: print says nothing outside of tests
	"internal.print", "internal.test_case", "print", "rego.metadata.chain", "rego.metadata.rule",
}

// capabilities is what rules are compiled against.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool { return !slices.Contains(harmless, b.Name) })
	for i, b := range c.Builtins {
		c.Builtins[i] = ownTypes(b)
	}
	c.FutureKeywords = nil  // the language is Rego v1, no more and no less
	c.AllowNet = []string{} // empty forbids all hosts, nil would allow them
	return c
}

// ownTypes is the built-in function with a declaration of its own. OPA's declarations are shared by everything
// in the process, and its type checker writes into them what it has merged (ast.mergeTypes): two compilations at the
// same moment would race there, and one policy would leave its mark on the next.
func ownTypes(b *ast.Builtin) *ast.Builtin {
	own := *b
	text, err := json.Marshal(b.Decl)
	if err != nil {
		panic("rego: " + b.Name + " cannot be written: " + err.Error()) // cannot happen: every test does
	}
	if !bytes.Contains(text, []byte(`"dynamic"`)) {
		return b // no object of any members, so nothing that is written into
	}
	read, err := types.Unmarshal(text)
	if err != nil {
		panic("rego: " + b.Name + " cannot be read: " + err.Error())
	}
	own.Decl = read.(*types.Function)
	return &own
}

// Capabilities is what rules are compiled against, as opa's --capabilities takes it: a JSON document.
func Capabilities() ([]byte, error) {
	text, err := json.MarshalIndent(capabilities(), "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}
