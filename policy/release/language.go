package release

import (
	"context"

	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// Rules are one policy, ready to answer.
type Rules interface {
	policy.Engine

	// Digest names the rules as "sha256:<hex>", as their answers carry it.
	Digest() string

	// Settings is data.settings of the policy's data, as encoding/json decodes it; nil if there is none.
	Settings() map[string]any

	// Explain says why the rules answer an input as they do, and what they would have allowed. It takes up to seconds.
	Explain(ctx context.Context, input map[string]any) (rego.Explanation, error)
}

// Language is what this room needs of the language that rules are written in.
type Language interface {
	// Load makes rules of a bundle. What is wrong with it is in the error.
	Load(ctx context.Context, bundle []byte) (Rules, error)

	// Vet checks a bundle as strictly as a proposal has to pass it, and runs its tests. The
	// error says that it could not be checked; what is wrong with the rules is in the Report.
	Vet(ctx context.Context, bundle []byte) (Report, error)
}
