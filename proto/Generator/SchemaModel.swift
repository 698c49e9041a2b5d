import CPlugin
import CProtobufC
import Foundation

/// Why a proto cannot be generated.
struct GeneratorError: Error, CustomStringConvertible {
  var description: String
}

struct EnumModel {
  var name: TypeName
  var comment: String
  var values: [(name: String, number: Int32, comment: String)]
}

struct FieldModel {
  enum Kind: Equatable {
    case double, float, int32, int64, uint32, uint64, bool, string, bytes
    case message(String), enumeration(String)
    indirect case map(key: Kind, value: Kind, entry: String)
  }

  var name: String
  var number: Int32
  var comment: String
  var kind: Kind
  var isRepeated: Bool
  /// Index of its oneof; nil outside one.
  var oneof: Int?
}

struct MessageModel {
  var name: TypeName
  var comment: String
  var fields: [FieldModel]
  var oneofs: [(name: String, comment: String)]
  var messages: [MessageModel]
  var enums: [EnumModel]

  /// This one and all nested in it.
  var flattened: [MessageModel] { [self] + self.messages.flatMap(\.flattened) }
}

struct MethodModel {
  var name: String
  var comment: String
  var input: String
  var output: String
  var clientStreaming: Bool
  var serverStreaming: Bool
  /// Whether it may be called again when nobody knows whether the first call was served (`idempotency_level`).
  var isIdempotent: Bool
}

struct ServiceModel {
  /// Services that the world knows under another name than their package's: a package of that name in `proto/` would
  /// collide with the one that gRPC's own libraries generate.
  private static let standardNames = ["fleetloop.v1.Health": "grpc.health.v1.Health"]

  var name: String
  var package: String
  var comment: String
  var methods: [MethodModel]

  /// Its name in calls.
  var wireName: String {
    let name = "\(self.package).\(self.name)"
    return Self.standardNames[name] ?? name
  }
}

struct FileModel {
  var name: String
  var package: String
  var messages: [MessageModel]
  var enums: [EnumModel]
  var services: [ServiceModel]
  var dependencies: [String]
  /// Serialized FileDescriptorProto, without comments.
  var descriptor: [UInt8]
}

/// The request as values.
struct SchemaModel {
  /// Files to generate, in the order of the command line.
  var files: [FileModel] = []
  /// Types by full name with a leading dot.
  var types: [String: TypeName] = [:]

  init(_ request: UnsafePointer<Google__Protobuf__Compiler__CodeGeneratorRequest>) throws {
    let wanted = Set(
      (0..<request.pointee.n_file_to_generate).map { String(cString: request.pointee.file_to_generate[$0]!) })
    for index in 0..<request.pointee.n_proto_file {
      let descriptor = request.pointee.proto_file[index]!
      let reader = FileReader(descriptor)
      let file = try reader.file()
      guard wanted.contains(file.name) else {
        throw GeneratorError(description: "\(file.name) is imported but not generated; name it too.")
      }
      self.files.append(file)
      for message in file.messages.flatMap(\.flattened) {
        self.types["." + message.name.full] = message.name
        for nested in message.enums { self.types["." + nested.name.full] = nested.name }
      }
      for nested in file.enums { self.types["." + nested.name.full] = nested.name }
    }
    self.files.sort { $0.name < $1.name }
  }

  func type(_ reference: String) -> TypeName {
    guard let type = self.types[reference] else { preconditionFailure("protoc let \(reference) pass") }
    return type
  }
}

/// Reads one FileDescriptorProto.
private struct FileReader {
  typealias Message = UnsafeMutablePointer<Google__Protobuf__DescriptorProto>

  let descriptor: UnsafeMutablePointer<Google__Protobuf__FileDescriptorProto>
  /// Comments by path.
  var comments: [[Int32]: String] = [:]

  init(_ descriptor: UnsafeMutablePointer<Google__Protobuf__FileDescriptorProto>) {
    self.descriptor = descriptor
    guard let info = descriptor.pointee.source_code_info else { return }
    for index in 0..<info.pointee.n_location {
      let location = info.pointee.location[index]!.pointee
      guard let comment = location.leading_comments else { continue }
      let path = (0..<location.n_path).map { location.path[$0] }
      self.comments[path] = String(cString: comment)
    }
  }

  func file() throws -> FileModel {
    let file = self.descriptor.pointee
    let name = String(cString: file.name)
    let package = file.package.map { String(cString: $0) } ?? ""
    guard file.syntax.map({ String(cString: $0) }) == "proto3" else {
      throw GeneratorError(description: "\(name): only proto3 is supported.")
    }
    let messages = try (0..<file.n_message_type).map {
      try self.message(file.message_type[$0]!, path: [4, Int32($0)], package: package, parents: [])
    }
    let enums = (0..<file.n_enum_type).map {
      self.enumeration(file.enum_type[$0]!, path: [5, Int32($0)], package: package, parents: [])
    }
    let services = (0..<file.n_service).map {
      self.service(file.service[$0]!, index: Int32($0), package: package)
    }
    let dependencies = (0..<file.n_dependency).map { String(cString: file.dependency[$0]!) }
    return FileModel(
      name: name, package: package, messages: messages, enums: enums, services: services,
      dependencies: dependencies, descriptor: self.withoutComments())
  }

  private func withoutComments() -> [UInt8] {
    var copy = self.descriptor.pointee
    copy.source_code_info = nil
    let size = google__protobuf__file_descriptor_proto__get_packed_size(&copy)
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      count = google__protobuf__file_descriptor_proto__pack(&copy, buffer.baseAddress)
    }
  }

  private func message(
    _ pointer: Message, path: [Int32], package: String, parents: [String]
  ) throws -> MessageModel {
    let message = pointer.pointee
    let name = TypeName(package: package, parents: parents, name: String(cString: message.name))
    var nested: [MessageModel] = []
    var entries: [String: MessageModel] = [:]
    for index in 0..<message.n_nested_type {
      let child = message.nested_type[index]!
      let model = try self.message(
        child, path: path + [3, Int32(index)], package: package, parents: parents + [name.name])
      if child.pointee.options?.pointee.map_entry == 1 {
        entries["." + model.name.full] = model
      } else {
        nested.append(model)
      }
    }
    let fields = try (0..<message.n_field).map {
      try self.field(
        message.field[$0]!.pointee, path: path + [2, Int32($0)], message: name, entries: entries)
    }
    return MessageModel(
      name: name, comment: self.comments[path] ?? "", fields: fields,
      oneofs: (0..<message.n_oneof_decl).map {
        (String(cString: message.oneof_decl[$0]!.pointee.name), self.comments[path + [8, Int32($0)]] ?? "")
      },
      messages: nested,
      enums: (0..<message.n_enum_type).map {
        self.enumeration(
          message.enum_type[$0]!, path: path + [4, Int32($0)], package: package,
          parents: parents + [name.name])
      })
  }

  private func field(
    _ field: Google__Protobuf__FieldDescriptorProto, path: [Int32], message: TypeName,
    entries: [String: MessageModel]
  ) throws -> FieldModel {
    let name = String(cString: field.name)
    if field.has_proto3_optional != 0, field.proto3_optional != 0 {
      throw GeneratorError(
        description: "\(message.full).\(name): protoc-c has no proto3 'optional'; use a oneof of one field.")
    }
    let reference = field.type_name.map { String(cString: $0) } ?? ""
    var kind = try self.kind(field, reference: reference, place: "\(message.full).\(name)")
    var repeated = field.label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED
    if let entry = entries[reference] {
      kind = .map(key: entry.fields[0].kind, value: entry.fields[1].kind, entry: entry.name.cType)
      repeated = false
    }
    return FieldModel(
      name: name, number: field.number, comment: self.comments[path] ?? "", kind: kind, isRepeated: repeated,
      oneof: field.has_oneof_index != 0 ? Int(field.oneof_index) : nil)
  }

  private func kind(
    _ field: Google__Protobuf__FieldDescriptorProto, reference: String, place: String
  ) throws -> FieldModel.Kind {
    switch field.type {
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_DOUBLE: .double
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_FLOAT: .float
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_INT32,
      GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_SINT32,
      GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_SFIXED32:
      .int32
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_INT64,
      GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_SINT64,
      GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_SFIXED64:
      .int64
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_UINT32,
      GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_FIXED32:
      .uint32
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_UINT64,
      GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_FIXED64:
      .uint64
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_BOOL: .bool
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_STRING: .string
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_BYTES: .bytes
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_MESSAGE: .message(reference)
    case GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_ENUM: .enumeration(reference)
    default: throw GeneratorError(description: "\(place): groups are not supported.")
    }
  }

  private func enumeration(
    _ pointer: UnsafeMutablePointer<Google__Protobuf__EnumDescriptorProto>, path: [Int32], package: String,
    parents: [String]
  ) -> EnumModel {
    let value = pointer.pointee
    return EnumModel(
      name: TypeName(package: package, parents: parents, name: String(cString: value.name)),
      comment: self.comments[path] ?? "",
      values: (0..<value.n_value).map {
        let one = value.value[$0]!.pointee
        return (String(cString: one.name), one.number, self.comments[path + [2, Int32($0)]] ?? "")
      })
  }

  private func service(
    _ pointer: UnsafeMutablePointer<Google__Protobuf__ServiceDescriptorProto>, index: Int32, package: String
  ) -> ServiceModel {
    let service = pointer.pointee
    return ServiceModel(
      name: String(cString: service.name), package: package, comment: self.comments[[6, index]] ?? "",
      methods: (0..<service.n_method).map {
        let method = service.method[$0]!.pointee
        return MethodModel(
          name: String(cString: method.name), comment: self.comments[[6, index, 2, Int32($0)]] ?? "",
          input: String(cString: method.input_type), output: String(cString: method.output_type),
          clientStreaming: method.client_streaming != 0, serverStreaming: method.server_streaming != 0,
          isIdempotent: [
            GOOGLE__PROTOBUF__METHOD_OPTIONS__IDEMPOTENCY_LEVEL__NO_SIDE_EFFECTS,
            GOOGLE__PROTOBUF__METHOD_OPTIONS__IDEMPOTENCY_LEVEL__IDEMPOTENT,
          ].contains(method.options?.pointee.idempotency_level))
      })
  }
}
