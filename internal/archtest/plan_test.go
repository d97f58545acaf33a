package archtest

// A room is one package and what it may import.
type room struct {
	level   int               // an import goes to a lower level, or to the ground (see ground)
	imports map[string]string // rooms, each with the reason for the edge
	tests   []string          // rooms that only its tests import, beyond everybodysTests
}

// ground are the rooms without opinions, which everyone on level 0 may stand on, too.
var ground = map[string]bool{"internal/fault": true, "internal/cms": true}

// everybodysTests may be imported by the tests of any room above them: tests go
// through real parts, not through mocks.
var everybodysTests = map[string]bool{
	"audit": true, "policy": true, "policy/rego": true, "fleet": true, "ca": true, "ca/keys": true, "enroll": true,
	"store": true, "store/storetest": true, "internal/housetest": true, "internal/estclient": true,
	"internal/fault": true, "internal/cms": true, "internal/pgtest": true, "internal/swtpm": true, "internal/tpmdevice": true,
	"internal/forge": true, "internal/dextest": true, "attest": true, "attest/tpm": true,
}

const (
	faults   = "errors have one vocabulary"
	leaf     = "what it does is an event of the record"
	permit   = "its verbs take a Permit or a Grant"
	register = "its subject is a device of the register"
	refusals = "who is refused too often has to wait"
)

// plan is the import plan: docs/architecture.md in a form that fails.
var plan = map[string]room{
	"internal/fault": {level: 0},
	"internal/cms":   {level: 0},
	"internal/estclient": {level: 0, imports: map[string]string{
		"internal/cms": "answers are certs-only CMS"}},
	"internal/limit":    {level: 0}, // one count of refusals for all doors
	"internal/archtest": {level: 0},
	"internal/openapi":  {level: 0}, // describes Go types, when the document of the API is made
	"internal/once": {level: 0, imports: map[string]string{ // makes a call that is sent twice be done once
		"internal/fault": faults}},
	"internal/bench": {level: 3, imports: map[string]string{ // measures the built binary from outside, and the rules from inside
		"internal/forge": "plays devices with TPMs under load",
		"policy":         "names actions and verdicts", "policy/rego": "what a decision takes"}},
	"internal/tpmdevice": {level: 0}, // the device's side of a TPM
	"internal/swtpm": {level: 1, imports: map[string]string{ // software TPMs for the tests
		"internal/tpmdevice": "reaches them, and certifies their keys"}},
	"internal/housetest": {level: 1, imports: map[string]string{ // runs the built binaries
		"internal/estclient": "a device in a test"}},
	"internal/pgtest":  {level: 0}, // a PostgreSQL for the tests
	"internal/forge":   {level: 0}, // a TPM in software, which lies where it is told to
	"internal/dextest": {level: 0}, // an OpenID Connect provider for the tests
	"audit": {level: 0, imports: map[string]string{
		"internal/fault": faults}},
	"ca/keys": {level: 0},

	"policy": {level: 1, imports: map[string]string{
		"audit":          "a decision is a leaf of the record",
		"internal/fault": "a refusal is an error"}},

	"policy/rego": {level: 2, imports: map[string]string{
		"policy": "implements its Engine"}},
	"policy/release": {level: 3, imports: map[string]string{
		"policy": permit, "policy/rego": "checks and loads what is proposed", "audit": leaf, "internal/fault": faults}},
	"policy/source": {level: 4, imports: map[string]string{
		"policy": permit, "policy/rego": "verifies what it pulls", "policy/release": "proposes it", "audit": "names its proposals", "internal/fault": faults},
		tests: []string{"policy/release"}},
	"operators": {level: 2, imports: map[string]string{
		"policy": permit, "audit": leaf, "internal/fault": faults}},
	"decisionlog": {level: 2, imports: map[string]string{
		"audit": "the record is its queue", "policy": "its events tell of decisions", "internal/fault": faults}},
	"operators/oidc": {level: 3, imports: map[string]string{
		"operators": "its logins are the register's", "internal/fault": faults}},
	"fleet": {level: 2, imports: map[string]string{
		"policy": permit, "audit": leaf, "internal/fault": faults}},

	"attest": {level: 2, imports: map[string]string{
		"policy": permit, "audit": leaf, "internal/fault": faults},
		tests: []string{"attest/tpm"}}, // event logs are read there
	"attest/tpm": {level: 3, imports: map[string]string{
		"attest": "its evidence is of this kind"}},
	"attest/corim": {level: 3, imports: map[string]string{
		"attest": "reads and writes its baselines", "internal/fault": faults}},
	"attest/idevid": {level: 3, imports: map[string]string{
		"internal/fault": faults}},

	"ca": {level: 3, imports: map[string]string{
		"attest": "what was proven of a key stands in its certificate",
		"policy": "signs on a Grant and on nothing else", "fleet": "names are built from the register",
		"audit": leaf, "internal/fault": faults}},

	"ca/status": {level: 4, imports: map[string]string{
		"ca": "publishes what it has revoked, signed by its issuer", "audit": leaf}},

	"enroll": {level: 4, imports: map[string]string{
		"ca":     "the walk ends at the authority",
		"attest": "the walk appraises evidence", "attest/tpm": "of TPMs", "attest/idevid": "of factories", "policy": "the walk asks for a decision", "fleet": register,
		"audit": leaf, "internal/fault": faults, "internal/limit": "who asks for too many nonces has to wait"}},

	"enroll/est": {level: 5, imports: map[string]string{
		"enroll": "turns the protocol into an enroll.Request", "ca": "parses the CSR, answers the certificate",
		"internal/cms": "answers are certs-only CMS", "internal/fault": "translates errors at the door",
		"internal/limit": refusals}},
	"enroll/akca": {level: 5, imports: map[string]string{
		"enroll": "turns the protocol into an enroll.AKRequest", "attest/tpm": "how an attestation key is introduced",
		"internal/fault": "translates errors at the door", "internal/limit": refusals}},
	"console": {level: 5, imports: map[string]string{
		"attest":    "operators manage baselines and lift bonds",
		"operators": "knows its callers by the register, and they manage it", "operators/oidc": "sends them to the provider and back",
		"decisionlog": "shows decisions as sinks get them",
		"enroll":      "operators manage tokens, anchors and held requests", "ca": "operators look at certificates",
		"fleet": "operators manage devices", "policy": "asks for every Permit", "policy/release": "operators lead the life of the policy",
		"audit": "serves the record", "internal/fault": "translates errors at the door", "internal/limit": refusals,
		"internal/once": "a change that is asked for twice is done once"},
		tests: []string{"internal/openapi"}}, // the document is made there
	"store": {level: 5, imports: map[string]string{
		"ca": "implements its Store", "ca/status": "implements its stores", "enroll": "implements its stores", "fleet": "implements its Store", "internal/once": "implements its Store",
		"attest": "implements its stores", "operators": "implements its stores", "policy": "implements its Warden", "policy/release": "implements its stores",
		"decisionlog": "implements its stores",
		"audit":       "implements its Store and Journal", "internal/fault": faults}},
	"store/storetest": {level: 6, imports: map[string]string{
		"policy/release": "facts to store",
		"store":          "the suite is about it", "internal/once": "facts to store", "attest": "facts to store", "operators": "facts to store", "ca": "facts to store", "ca/status": "facts to store", "enroll": "facts to store", "fleet": "facts to store",
		"policy": "facts are canonical as policy writes them", "audit": "facts to store", "internal/fault": "tells errors apart"}},

	"cmd/hallmark": {level: 7, imports: map[string]string{
		"decisionlog":    "builds the room",
		"policy/release": "runs the life of the policy", "policy/source": "pulls rules from a bundle server",
		"enroll/est": "mounts the door", "enroll/akca": "mounts the door", "console": "mounts the door", "store": "opens the database",
		"enroll": "builds the room", "operators": "builds the room; cuts break-glass keys in two", "operators/oidc": "builds the room", "ca": "builds the room", "ca/status": "mounts the door", "ca/keys": "opens the keys by URI", "fleet": "builds the room",
		"policy": "builds the enforcement point", "policy/rego": "loads the rules",
		"attest": "builds the rooms of evidence", "attest/tpm": "opens what the operator keeps on file about TPMs",
		"attest/corim": "takes and writes baselines as others exchange them", "internal/fault": "tells what is not there from what failed",
		"audit": "runs the sequencer; verifies offline", "internal/limit": "builds the one that the doors share"}},
	"cmd/hallmark-device": {level: 7, imports: map[string]string{
		"internal/estclient": "speaks EST", "internal/tpmdevice": "keys that live in a TPM, and evidence of it"}},
}

// A guest is a module that only some rooms may import.
type guest struct {
	rooms []string // nil: any
	tests []string // rooms whose tests may import it, too
	why   string
}

// guests are the modules in the house, by path prefix; the longest one counts.
var guests = map[string]guest{
	"github.com/open-policy-agent/opa":      {rooms: []string{"policy/rego"}, why: "evaluates Rego"},
	"modernc.org/sqlite":                    {rooms: []string{"store"}, why: "the embedded database, without cgo"},
	"github.com/lib/pq":                     {rooms: []string{"store", "internal/pgtest"}, why: "speaks to PostgreSQL"},
	"github.com/pressly/goose":              {rooms: []string{"store"}, why: "migrations for both engines under a lock"},
	"github.com/klauspost/compress":         {rooms: []string{"store"}, why: "zstd for what is stored once and read seldom"},
	"github.com/smallstep/certificates":     {rooms: []string{"ca"}, why: "the socket for upstream authorities"},
	"github.com/zmap/zlint":                 {rooms: []string{"ca"}, why: "lints before signing"},
	"github.com/zmap/zcrypto":               {rooms: []string{"ca"}, why: "zlint's parser"},
	"filippo.io/edwards25519":               {rooms: []string{"ca"}, why: "refuses Ed25519 keys of small order"},
	"go.step.sm/crypto":                     {rooms: []string{"ca/keys"}, tests: []string{"internal/housetest"}, why: "keys by URI; the client of attestation CAs"},
	"github.com/google/go-tpm":              {rooms: []string{"attest/tpm", "internal/forge", "internal/tpmdevice", "internal/swtpm"}, tests: []string{"internal/housetest"}, why: "speaks TPM 2.0"},
	"github.com/google/go-attestation":      {rooms: []string{"internal/bench"}, tests: []string{"attest/tpm"}, why: "a second opinion on our event logs, and recorded ones"},
	"github.com/fxamacker/cbor":             {rooms: []string{"attest/corim"}, why: "reads and writes CBOR"},
	"github.com/veraison/go-cose":           {rooms: []string{"attest/corim"}, why: "signs and verifies COSE_Sign1"},
	"golang.org/x/mod":                      {rooms: []string{"audit"}, tests: []string{"console"}, why: "the Merkle tree and signed notes"},
	"github.com/prometheus/client_golang":   {rooms: []string{"cmd/hallmark"}, why: "metrics"},
	"github.com/spf13/cobra":                {rooms: []string{"cmd/hallmark", "cmd/hallmark-device"}, why: "the command lines"},
	"github.com/goccy/go-yaml":              {rooms: []string{"cmd/hallmark"}, why: "reads the configuration with line numbers"},
	"github.com/rogpeppe/go-internal":       {rooms: []string{}, tests: []string{"cmd/hallmark", "cmd/hallmark-device"}, why: "scripts drive the real binaries"},
	"github.com/getkin/kin-openapi":         {rooms: []string{}, tests: []string{"console"}, why: "holds calls and answers against the OpenAPI document"},
	"github.com/santhosh-tekuri/jsonschema": {rooms: []string{}, tests: []string{"console", "internal/housetest"}, why: "holds what rules are asked against the schemas of actions"},
	"github.com/smallstep/pkcs7":            {rooms: []string{}, tests: []string{"internal/cms", "enroll/est"}, why: "a second opinion on our CMS"},
	"github.com/coreos/go-oidc":             {rooms: []string{"operators/oidc"}, why: "finds the provider and its keys, verifies ID tokens"},
	"golang.org/x/oauth2":                   {rooms: []string{"operators/oidc"}, why: "speaks to the provider's endpoints; of the Go project"},
	"github.com/go-jose/go-jose":            {rooms: []string{}, tests: []string{"operators/oidc"}, why: "forges ID tokens for the tests"},
	"golang.org/x/crypto/ocsp":              {rooms: []string{}, tests: []string{"ca/status"}, why: "a second opinion on our OCSP"},
	"golang.org/x/crypto/cryptobyte":        {why: "builds and reads DER; of the Go project"},
	"golang.org/x/sync":                     {why: "errgroup; of the Go project"},
	"golang.org/x/text/unicode/norm":        {rooms: []string{"ca"}, why: "compares names as RFC 5280, Section 7.1 asks"},
	"golang.org/x/time":                     {rooms: []string{"internal/limit"}, why: "token buckets"},
	"golang.org/x/net/netutil":              {rooms: []string{"cmd/hallmark"}, why: "bounds connections per listener"},
	"golang.org/x/net/http2":                {rooms: []string{}, tests: []string{"internal/housetest"}, why: "abuses HTTP/2 in tests"},
}
