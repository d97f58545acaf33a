package console

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/once"
	"github.com/hallmark-pki/hallmark/internal/openapi"
)

var update = flag.Bool("update", false, "write openapi.json")

// TestTheDocumentIsOfTheseRoutes makes the OpenAPI document from the routes and
// holds the one that is served against it.
func TestTheDocumentIsOfTheseRoutes(t *testing.T) {
	var made bytes.Buffer
	encoder := json.NewEncoder(&made)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	check(t, encoder.Encode(newDraft().document()))
	if *update {
		check(t, os.WriteFile("openapi.json", made.Bytes(), 0o644))
		return
	}
	if !bytes.Equal(made.Bytes(), description) {
		t.Fatal("the routes, their types or the words in the source have changed: run go generate ./console, look at what became of openapi.json, and commit it")
	}
}

type object = map[string]any

// draft is the document while it is made.
type draft struct {
	schemas *openapi.Schemas
	codes   map[int][]code
}

func newDraft() *draft {
	source := openapi.NewSource("github.com/hallmark-pki/hallmark", "..")
	return &draft{schemas: openapi.NewSchemas(source), codes: codesOf(source)}
}

func (d *draft) document() object {
	paths := map[string]object{}
	add := func(method, pattern string, operation object) {
		pattern = strings.ReplaceAll(pattern, "...}", "}")
		if paths[pattern] == nil {
			paths[pattern] = object{}
		}
		paths[pattern][strings.ToLower(method)] = operation
	}
	for i := range routes {
		rt := &routes[i]
		operation := d.operation(rt.method, rt.pattern, rt.plan, &rt.shape)
		operation["x-hallmark-action"] = rt.action
		if rt.proof != nil {
			operation["security"] = []object{{}}
		}
		d.refusals(operation, rt)
		d.conditions(operation, rt)
		add(rt.method, rt.pattern, operation)
	}
	for i := range publicRoutes {
		rt := &publicRoutes[i]
		operation := d.operation(rt.method, rt.pattern, rt.answer, &rt.shape)
		operation["security"] = []object{{}}
		d.problems(operation, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable)
		if strings.Contains(rt.pattern, "{") {
			d.problems(operation, http.StatusNotFound)
		}
		if strings.HasPrefix(rt.pattern, "/api/v1/login") { // the provider says who calls, or why not
			d.problems(operation, 400, 401, 403, 409)
		}
		add(rt.method, rt.pattern, operation)
	}
	responses := d.responses() // describes Problem, too
	illustrate(d.schemas.Named)
	return object{
		"openapi":           "3.1.1",
		"jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
		"info": object{"title": "Hallmark management API", "version": "1", "description": introduction,
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"}},
		"servers": []object{{"url": "https://localhost:8443", "description": "wherever the server listens"}},
		// RFC 8705 is not meant: the certificate is the whole credential.
		"security": []object{{"operatorCertificate": []string{}}, {"session": []string{}}, {"bearer": []string{}}}, // one of them
		"tags":     tagsOf(paths),
		"paths":    paths,
		"components": object{
			"schemas":   d.schemas.Named,
			"responses": responses,
			"headers":   answerHeaders,
			"securitySchemes": object{
				"operatorCertificate": object{"type": "mutualTLS",
					"description": "A certificate of the operators' authority that stands in the register of operators, unrevoked."},
				"session": object{"type": "apiKey", "in": "cookie", "name": sessionCookieName,
					"description": "The session of a browser that has signed in at the identity provider."},
				"bearer": object{"type": "http", "scheme": "bearer", "description": "The session of a program that has signed in there."},
			},
		},
	}
}

const introduction = "Everything that operators do with a Hallmark server. Each operation names in x-hallmark-action what policy is asked about before it is done. " +
	"Objects may gain members in later versions: ignore those that you do not know. A query or a body may hold nothing but what is said here."

// operation describes one route; handler gives it its name.
func (d *draft) operation(method, pattern string, handler any, s *shape) object {
	name := runtime.FuncForPC(reflect.ValueOf(handler).Pointer()).Name()
	operation := object{
		"operationId": name[strings.LastIndex(name, ".")+1:],
		"summary":     s.says,
		"tags":        []string{nounOf(pattern)},
	}
	parameters := []object{}
	for _, found := range pathParameter.FindAllString(pattern, -1) {
		name := strings.Trim(found, "{.}")
		parameters = append(parameters, object{"name": name, "in": "path", "required": true, "description": pathWords[nounOf(pattern)+" "+name],
			"schema": object{"type": "string", "minLength": 1, "maxLength": maxName}})
	}
	for _, p := range s.query {
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.says, "schema": p.schema()})
	}
	for _, p := range s.hears {
		parameters = append(parameters, object{"name": p.name, "in": "header", "description": p.says, "schema": p.schema()})
	}
	if slices.Contains(s.gives.headers, "ETag") {
		parameters = append(parameters, object{"name": "If-None-Match", "in": "header", "schema": object{"type": "string"},
			"description": "the ETag of what you have: answered 304 while it is the same"})
	}
	if len(parameters) > 0 {
		operation["parameters"] = parameters
	}
	if content := d.content(&s.takes); content != nil {
		operation["requestBody"] = object{"required": !s.takes.optional, "content": content}
		d.sent(content)
	}
	answer := object{"description": http.StatusText(s.gives.status), "headers": headersOf(s.gives.headers...)}
	if content := d.content(&s.gives); content != nil {
		answer["content"] = content
	}
	responses := object{strconv.Itoa(s.gives.status): answer}
	if slices.Contains(s.gives.headers, "ETag") {
		responses["304"] = object{"description": "You have it.", "headers": headersOf("ETag")}
	}
	operation["responses"] = responses
	return operation
}

// content describes a body; nil for none.
func (d *draft) content(b *body) object {
	content := object{}
	for _, kind := range b.kinds {
		content[kind] = object{}
	}
	if b.of != nil {
		schema := d.schemas.Of(reflect.TypeOf(b.of))
		if b.needs != nil {
			schema = d.partly(schema, b.needs)
		}
		content[jsonType] = object{"schema": schema}
	}
	if len(content) == 0 {
		return nil
	}
	return content
}

const toSchemas = "#/components/schemas/"

// partly is the schema of an object of which only some members have to be sent.
func (d *draft) partly(whole openapi.Schema, needs []string) openapi.Schema {
	name := strings.TrimPrefix(whole["$ref"].(string), toSchemas)
	part := maps.Clone(d.schemas.Named[name])
	part["required"] = needs
	d.schemas.Named["New"+name] = part
	return openapi.Schema{"$ref": toSchemas + "New" + name}
}

// sent closes the schemas of what callers send: a member that is not known is an error.
func (d *draft) sent(node any) {
	switch node := node.(type) {
	case object:
		for _, value := range node {
			d.sent(value)
		}
	case map[string]openapi.Schema:
		for _, value := range node {
			d.sent(value)
		}
	case []openapi.Schema:
		for _, value := range node {
			d.sent(value)
		}
	case openapi.Schema:
		if name, found := strings.CutPrefix(str(node["$ref"]), toSchemas); found {
			node = d.schemas.Named[name]
		}
		if node["properties"] != nil && node["additionalProperties"] == nil {
			node["additionalProperties"] = false
		}
		for _, key := range []string{"properties", "items", "additionalProperties", "anyOf"} {
			d.sent(node[key])
		}
	}
}

func str(v any) string {
	s, _ := v.(string)
	return s
}

func (p *parameter) schema() object {
	switch p.kind {
	case choice:
		return object{"type": "string", "enum": p.values}
	case moment:
		return object{"type": "string", "format": "date-time"}
	case number:
		return object{"type": "integer", "minimum": 1, "maximum": maxLimit, "default": defaultLimit}
	}
	return object{"type": "string", "maxLength": maxName}
}

// conditions adds what goes with keys of calls and with tags of objects.
func (d *draft) conditions(operation object, rt *route) {
	parameters, _ := operation["parameters"].([]object)
	header := func(name, says string, schema object) {
		parameters = append(parameters, object{"name": name, "in": "header", "description": says, "schema": schema})
	}
	if rt.repeatable() {
		header(once.Header, "names this change, so that it is done once however often it is sent; a random UUID is a good one. "+
			"A repeat within 24 hours gets the same answer, with "+replayedHeader,
			object{"type": "string", "minLength": once.MinKey, "maxLength": once.MaxKey + 2})
		d.problems(operation, http.StatusUnprocessableEntity)
		done := operation["responses"].(object)[strconv.Itoa(rt.gives.status)].(object)
		done["headers"].(object)[replayedHeader] = object{"$ref": "#/components/headers/" + replayedHeader}
	}
	if _, there := shownObjects()[rt.object()]; there && rt.method != http.MethodGet {
		header("If-Match", "do it only if the object still has this ETag; takes the right to show it", object{"type": "string"})
		d.problems(operation, http.StatusPreconditionFailed)
	}
	if len(parameters) > 0 {
		operation["parameters"] = parameters
	}
}

// refusals adds what a route may answer when all is not well.
func (d *draft) refusals(operation object, rt *route) {
	d.problems(operation, 400, 401, 403, 429, 500, 503, 202)
	if strings.Contains(rt.pattern, "{") || rt.action.Reads() {
		d.problems(operation, 404, 409)
	}
	if !rt.action.Reads() || rt.patience > 0 {
		d.problems(operation, 404, 409)
	}
	if rt.takes.of != nil || rt.takes.kinds != nil {
		d.problems(operation, 413, 415)
	}
}

func (d *draft) problems(operation object, statuses ...int) {
	responses := operation["responses"].(object)
	for _, status := range statuses {
		responses[strconv.Itoa(status)] = object{"$ref": "#/components/responses/" + responseName(status)}
	}
}

func responseName(status int) string {
	if status == http.StatusAccepted {
		return "Held"
	}
	return strings.NewReplacer(" ", "", "-", "").Replace(http.StatusText(status))
}

// responses are the problems, by status.
func (d *draft) responses() object {
	all := object{}
	for status, codes := range d.codes {
		headers := []string{}
		switch status {
		case 202, 429, 503:
			headers = append(headers, "Retry-After")
		case 401:
			headers = append(headers, "WWW-Authenticate", "Set-Cookie")
		case 403:
			headers = append(headers, "Set-Cookie")
		}
		says := map[string]string{}
		for _, c := range codes {
			says[c.name] = c.says
		}
		narrow := object{"status": object{"const": status}}
		if !ofPolicy[status] {
			narrow["code"] = object{"enum": slices.Sorted(maps.Keys(says))}
		}
		told := headersOf(headers...)
		if status == http.StatusConflict {
			told["Retry-After"] = object{"description": "seconds to wait, where waiting helps", "schema": object{"type": "integer", "minimum": 1}}
		}
		all[responseName(status)] = object{
			"description": statusWords[status], "headers": told, "x-hallmark-codes": says,
			"content": object{"application/problem+json": object{"schema": object{
				"allOf": []any{d.schemas.Of(reflect.TypeFor[Problem]()), object{"properties": narrow}}}}},
		}
	}
	return all
}

// ofPolicy are the statuses whose codes are the rules' to choose: those that a kernel rule uses are told all the same.
var ofPolicy = map[int]bool{http.StatusForbidden: true, http.StatusAccepted: true}

var statusWords = map[int]string{
	202: "A person has to agree first; come back after Retry-After.",
	400: "The call cannot be understood, or breaks a bound.",
	401: "No operator's certificate, or none that is good now.",
	403: "Policy does not permit it; or a foreign web page made the call. Codes beyond those listed are the rules' own.",
	404: "There is no such thing.",
	405: "The path does not take this method.",
	409: "The thing is in a state that forbids it; or a call with the same Idempotency-Key is under way, or its answer was lost.",
	412: "It is no longer what If-Match names.",
	413: "The body is too large.",
	422: "The Idempotency-Key was used for another call.",
	415: "The body is of a type that this call does not take.",
	429: "Too many refused calls; come back after Retry-After.",
	500: "A failure of the server's; quote ref.",
	503: "Not just now; come back after Retry-After.",
}

// answerHeaders are the headers that an answer may have.
var answerHeaders = object{
	"X-Request-Id":        headerOf("finds the server's log lines"),
	"Cache-Control":       headerOf("no-store where the answer is for this caller only"),
	"Location":            headerOf("path of the new object"),
	replayedHeader:        headerOf("true: this was answered before, and nothing is done again"),
	"ETag":                headerOf("strong tag of this representation"),
	"Content-Disposition": headerOf("a name to keep the file under"),
	BackupDatabaseHeader:  headerOf("whether the archive holds the database: included, or not-included where PostgreSQL has it"),
	"Set-Cookie":          headerOf("the cookie of a sign-in under way, or of a session; with 401 it forgets one that is worth nothing"),
	"Referrer-Policy":     headerOf("no-referrer where the address is nobody else's business"),
	"Retry-After":         object{"description": "seconds to wait", "required": true, "schema": object{"type": "integer", "minimum": 1}},
	"WWW-Authenticate":    object{"description": "what is missing", "required": true, "schema": object{"type": "string"}},
}

func headerOf(says string) object {
	return object{"description": says, "schema": object{"type": "string"}}
}

func headersOf(names ...string) object {
	headers := object{}
	for _, name := range append(names, "X-Request-Id", "Cache-Control") {
		headers[name] = object{"$ref": "#/components/headers/" + name}
	}
	return headers
}

// pathWords describe the parameters of paths, by noun and name.
var pathWords = map[string]string{
	"tokens id": "the token's id", "requests id": "id of the decision that held it first", "devices id": "the device's id",
	"baselines id": "the baseline's id", "anchors id": "SHA-256 of the certificate, lower-case hex", "certificates serial": "serial number, lower-case hex without separators",
	"decisions id": "the decision's id", "audit name": "id of an entry, or serial of a certificate", "operators name": "the operator's name", "sessions id": "the session's id",
	"policy revision": "number of the revision", "policy id": "the proposal's id", "log path": "path of the tile; it has slashes in it",
}

// nounOf is what a path is about, for grouping.
func nounOf(pattern string) string {
	parts := strings.Split(strings.TrimPrefix(pattern, "/api/v1"), "/")
	return strings.TrimSuffix(parts[1], ".json")
}

func tagsOf(paths map[string]object) []object {
	nouns := map[string]bool{}
	for pattern := range paths {
		nouns[nounOf(pattern)] = true
	}
	tags := []object{}
	for _, noun := range slices.Sorted(maps.Keys(nouns)) {
		tags = append(tags, object{"name": noun})
	}
	return tags
}
