//! A component that was built when the contract was 0.1.0, and is kept as it was. It loads here, and in a host whose contract has grown.

use idp::provider::Providers;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceTable, ResourceType};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::support::{Setup, config, root};

fn kept() -> std::path::PathBuf {
    root().join("tests/providers/kept/odd-0.1.0.wasm")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_loads_in_this_host() {
    let path = kept().display().to_string();
    let info = Providers::new(config()).show(&path).expect("a manifest");
    let provider = Setup::new(path, "r.example").load().await.expect("loaded");
    let description = provider.describe().await.expect("described");
    assert_eq!(description.id, info.manifest.name);
    assert!(description.interfaces.iter().any(|name| name == "auth"), "{description:?}");
}

struct Later {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Later {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A host of contract `version`: everything that the component imports, and on every interface a function that it has never heard of.
fn later(engine: &Engine, component: &Component, version: &str) -> wasmtime::Result<Linker<Later>> {
    let mut linker: Linker<Later> = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let kind = component.component_type();
    let imports = kind.imports(engine).filter(|(name, _)| name.starts_with("idp:registry-provider/"));
    for (name, import) in imports {
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        let name = name.split('@').next().unwrap_or_default();
        let mut instance = linker.instance(&format!("{name}@{version}"))?;
        for (function, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    instance
                        .func_new(function, |_, _, _, _| Err(wasmtime::Error::msg("not asked for here")))?;
                }
                // The handles of one name are the same everywhere.
                ComponentItem::Resource(_) if function == "response" => {
                    instance.resource(function, ResourceType::host::<u8>(), |_, _| Ok(()))?;
                }
                ComponentItem::Resource(_) => {
                    instance.resource(function, ResourceType::host::<u16>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
        instance.func_new("added-later", |_, _, _, _| Ok(()))?;
    }
    Ok(linker)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_loads_in_a_host_that_has_grown() {
    let engine = Engine::new(&Config::new()).expect("an engine");
    let component = Component::from_file(&engine, kept()).expect("compiled");
    for (version, loads) in [("0.1.1", true), ("0.1.9", true), ("0.2.0", false)] {
        let linker = later(&engine, &component, version).expect("a linker");
        let state = Later { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
        let mut store = Store::new(&engine, state);
        let instance = linker.instantiate_async(&mut store, &component).await;
        assert_eq!(instance.is_ok(), loads, "{version}: {:?}", instance.err());
        // A later host looks for the interfaces by its own version.
        let found =
            component.get_export_index(None, format!("idp:registry-provider/auth@{version}").as_str());
        assert_eq!(found.is_some(), loads, "{version}");
    }
}
