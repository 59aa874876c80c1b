package client

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// object is a pointer to an API object.
type object interface {
	runtime.Object
	metav1.Object
}

// Resource calls one kind of objects, in one namespace when it has one. It stands in
// the place of client-go's gentype, which links the OpenAPI models for its fakes.
type Resource[T object, L runtime.Object] struct {
	name, namespace string
	rest            rest.Interface
	codec           runtime.ParameterCodec
	newObject       func() T
	newList         func() L
}

// pointer is a pointer to O that is an API object.
type pointer[O any] interface {
	*O
	object
}

// listPointer is a pointer to O that is a list.
type listPointer[O any] interface {
	*O
	runtime.Object
}

// resource returns the client of objects O, whose lists are L. An empty namespace
// means all of them, or that the kind has none.
func resource[O, L any, T pointer[O], Q listPointer[L]](r rest.Interface, codec runtime.ParameterCodec, name, namespace string) *Resource[T, Q] {
	return &Resource[T, Q]{
		name: name, namespace: namespace, rest: r, codec: codec,
		newObject: func() T { return new(O) }, newList: func() Q { return new(L) },
	}
}

// all directs a request at all objects.
func (r *Resource[T, L]) all(q *rest.Request, opts runtime.Object) *rest.Request {
	return q.NamespaceIfScoped(r.namespace, r.namespace != "").Resource(r.name).VersionedParams(opts, r.codec)
}

// one directs a request at one object; an empty name makes the request fail.
func (r *Resource[T, L]) one(q *rest.Request, name string) *rest.Request {
	return q.NamespaceIfScoped(r.namespace, r.namespace != "").Resource(r.name).Name(name)
}

// Get reads an object.
func (r *Resource[T, L]) Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error) {
	out := r.newObject()
	return out, r.one(r.rest.Get(), name).VersionedParams(&opts, r.codec).Do(ctx).Into(out)
}

// List reads all objects that the options select.
func (r *Resource[T, L]) List(ctx context.Context, opts metav1.ListOptions) (L, error) {
	out := r.newList()
	return out, r.all(r.rest.Get(), &opts).Timeout(seconds(opts.TimeoutSeconds)).Do(ctx).Into(out)
}

// Watch receives the changes of the objects that the options select.
func (r *Resource[T, L]) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	return r.all(r.rest.Get(), &opts).Timeout(seconds(opts.TimeoutSeconds)).Watch(ctx)
}

// Create makes an object and returns it as the API server has it.
func (r *Resource[T, L]) Create(ctx context.Context, o T, opts metav1.CreateOptions) (T, error) {
	out := r.newObject()
	return out, r.all(r.rest.Post(), &opts).Body(o).Do(ctx).Into(out)
}

// Update replaces an object and returns it as the API server has it.
func (r *Resource[T, L]) Update(ctx context.Context, o T, opts metav1.UpdateOptions) (T, error) {
	out := r.newObject()
	return out, r.one(r.rest.Put(), o.GetName()).VersionedParams(&opts, r.codec).Body(o).Do(ctx).Into(out)
}

// UpdateStatus is Update of the status alone.
func (r *Resource[T, L]) UpdateStatus(ctx context.Context, o T, opts metav1.UpdateOptions) (T, error) {
	return r.UpdatePart(ctx, o, opts, "status")
}

// UpdatePart is Update of a subresource alone.
func (r *Resource[T, L]) UpdatePart(ctx context.Context, o T, opts metav1.UpdateOptions, subresource string) (T, error) {
	out := r.newObject()
	return out, r.one(r.rest.Put(), o.GetName()).VersionedParams(&opts, r.codec).SubResource(subresource).Body(o).Do(ctx).Into(out)
}

// Patch changes an object, or a subresource of it, and returns it as the API server
// has it.
func (r *Resource[T, L]) Patch(ctx context.Context, name string, kind types.PatchType, patch []byte, opts metav1.PatchOptions, subresources ...string) (T, error) {
	out := r.newObject()
	return out, r.one(r.rest.Patch(kind), name).VersionedParams(&opts, r.codec).SubResource(subresources...).Body(patch).Do(ctx).Into(out)
}

// Delete deletes an object.
func (r *Resource[T, L]) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	return r.one(r.rest.Delete(), name).Body(&opts).Do(ctx).Error()
}

// DeleteCollection deletes all objects that the list's options select.
func (r *Resource[T, L]) DeleteCollection(ctx context.Context, opts metav1.DeleteOptions, selected metav1.ListOptions) error {
	return r.all(r.rest.Delete(), &selected).Timeout(seconds(selected.TimeoutSeconds)).Body(&opts).Do(ctx).Error()
}

// seconds is a bound of a request; 0: none.
func seconds(s *int64) time.Duration {
	if s == nil {
		return 0
	}
	return time.Duration(*s) * time.Second
}
